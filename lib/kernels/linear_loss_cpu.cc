// The specification: every formula once, by whole tensors, in float64 where it is asked plainly.
#include <ATen/ATen.h>

#include "base/check.h"
#include "kernels/linear_loss.h"
#include "kernels/linear_loss_parts.h"

namespace attar {
namespace {

/// Sum over the vocabulary, kept as a column.
at::Tensor over_vocab(const at::Tensor& values) { return values.sum(-1, true); }

/// The terms between two whole distributions: their values (C, 1), weighted and plain, and d weighted / d (logits / T).
struct DensePart {
  at::Tensor weighted, plain, gradient;
};

/// p f - p sum(p f): how a term whose derivative by p is f reaches the logits.
at::Tensor through_softmax(const at::Tensor& p, const at::Tensor& f) { return p * (f - over_vocab(p * f)); }

DensePart dense_part(const at::Tensor& log_p, const at::Tensor& log_t, const LossWeights& w) {
  const at::Tensor p = log_p.exp(), t = log_t.exp();
  DensePart part{at::zeros_like(over_vocab(p)), at::zeros_like(over_vocab(p)), at::zeros_like(p)};
  const auto add = [&](double weight, const at::Tensor& value, const at::Tensor& gradient) {
    part.weighted = part.weighted + weight * value;
    part.plain = part.plain + value;
    part.gradient = part.gradient + weight * gradient;
  };
  const auto forward = [&](double weight) { add(weight, over_vocab(t * (log_t - log_p)), p - t); };
  const auto reverse = [&](double weight) { add(weight, over_vocab(p * (log_p - log_t)), through_softmax(p, log_p - log_t)); };
  const double least = p.scalar_type() == at::kDouble ? 1e-300 : 1e-37, beta = w.beta, lambda = w.lambda;
  if (w.kl) forward(w.kl);
  if (w.rkl) reverse(w.rkl);
  if (w.jsd && beta == 0) forward(w.jsd);  // the limits of JSD / (beta (1 - beta))
  if (w.jsd && beta == 1) reverse(w.jsd);
  if (w.jsd && beta > 0 && beta < 1) {
    const at::Tensor log_m = (beta * t + (1 - beta) * p).clamp_min(least).log();
    const at::Tensor value = over_vocab(beta * t * (log_t - log_m) + (1 - beta) * p * (log_p - log_m));
    add(w.jsd, value / (beta * (1 - beta)), through_softmax(p, (1 - beta) * (log_p - log_m)) / (beta * (1 - beta)));
  }
  if (w.skl) {
    const at::Tensor m = (lambda * t + (1 - lambda) * p).clamp_min(least);
    add(w.skl, over_vocab(t * (log_t - m.log())), through_softmax(p, -(1 - lambda) * t / m));
  }
  if (w.srkl) {
    const at::Tensor m = (lambda * p + (1 - lambda) * t).clamp_min(least);
    const at::Tensor h = log_p - m.log();
    add(w.srkl, over_vocab(p * h), through_softmax(p, h - lambda * p / m));
  }
  if (w.tvd) add(w.tvd, 0.5 * over_vocab((t - p).abs()), through_softmax(p, 0.5 * (p - t).sign()));
  return part;
}

/// kl against (ids, probabilities): cross-entropy form, or with the tail as one bucket.
DensePart sparse_part(const at::Tensor& log_p, const LossRows& rows, const LossWeights& w) {
  const int64_t count = log_p.size(0), vocab = log_p.size(1);
  const at::Tensor p = log_p.exp(), ids = rows.ids.to(at::kLong), there = ids.ge(0);
  const at::Tensor places = ids.masked_fill(there.logical_not(), vocab);  // one column more takes what is not there
  const at::Tensor t = at::zeros({count, vocab + 1}, p.options()).scatter_add_(1, places, rows.probs.to(p.scalar_type())).narrow(1, 0, vocab);
  const at::Tensor inside = at::zeros({count, vocab + 1}, p.options()).scatter_(1, places, 1.0).narrow(1, 0, vocab);
  const at::Tensor mass = over_vocab(t);
  DensePart part;
  part.plain = -over_vocab(t * log_p);
  part.gradient = mass * p - t;
  if (rows.tail.defined()) {
    const at::Tensor outside_count = vocab - over_vocab(inside);
    // A row without ids has nothing to say; one whose ids are the whole vocabulary has no tail.
    const at::Tensor usable = there.any(1, true).logical_and(outside_count.gt(0)).to(p.scalar_type());
    const at::Tensor tail = rows.tail.to(p.scalar_type()).unsqueeze(1) * usable;
    const at::Tensor log_outside = (log_p + inside.mul(kLeastLogProb * 10)).logsumexp(-1, true);
    const auto entropy = [](const at::Tensor& x) { return at::where(x.gt(0), x * x.clamp_min(1e-300).log(), at::zeros_like(x)); };
    part.plain = part.plain + over_vocab(entropy(t)) + entropy(tail) - tail * at::where(usable.gt(0), log_outside, at::zeros_like(tail));
    const at::Tensor outside = 1 - inside;
    // d(-tail log(1 - c)): the outside's softmax loses, everything gains p.
    part.gradient = part.gradient + tail * (p - at::where(usable.gt(0), outside * (log_p - log_outside).exp(), at::zeros_like(p)));
  }
  part.weighted = w.kl * part.plain;
  part.gradient = w.kl * part.gradient;
  return part;
}

}  // namespace

LossValues loss_formulas(const LossRows& rows, const LossWeights& w, at::Tensor* gradient) {
  const double T = w.temperature;
  const at::Tensor z = rows.softcap > 0 ? rows.softcap * (rows.logits / rows.softcap).tanh() : rows.logits;
  const at::Tensor labels = rows.labels.unsqueeze(1), log_p1 = z.log_softmax(-1);
  LossValues values;
  values.cross_entropy = -log_p1.gather(1, labels).squeeze(1);
  values.teacher = at::zeros_like(values.cross_entropy);
  at::Tensor weighted = w.ce * values.cross_entropy, slope;
  if (gradient) slope = w.ce * (log_p1.exp() - at::zeros_like(z).scatter_(1, labels, 1.0));
  if (rows.teacher.defined() || rows.ids.defined()) {
    const at::Tensor log_p = T == 1 ? log_p1 : (z / T).log_softmax(-1);
    DensePart part;
    if (rows.ids.defined()) {
      part = sparse_part(log_p, rows, w);
    } else {
      at::Tensor y = rows.teacher;
      if (rows.live && rows.teacher_softcap > 0) y = rows.teacher_softcap * (y / rows.teacher_softcap).tanh();
      if (rows.live) y = y / T;
      part = dense_part(log_p, (y - y.amax(-1, true)).clamp_min(kLeastLogProb).log_softmax(-1), w);
    }
    values.teacher = T * T * part.plain.squeeze(1);
    weighted = weighted + T * T * part.weighted.squeeze(1);
    if (gradient) slope = slope + T * part.gradient;
  }
  if (gradient && rows.softcap > 0) slope = slope * (1 - (z / rows.softcap).square());
  if (rows.row_weights.defined()) {
    weighted = weighted * rows.row_weights;
    if (gradient) slope = slope * rows.row_weights.unsqueeze(1);
  }
  values.loss = weighted;
  if (gradient) *gradient = slope;
  return values;
}

LinearLossResult linear_loss_plain(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                                   const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab, bool gradients) {
  const at::NoGradGuard no_grad;
  const LinearLossJob job = check_linear_loss(hidden, weight, targets, labels, row_weights, weights, softcap, vocab, gradients);
  const auto pick = [&](const at::Tensor& whole) { return whole.defined() ? whole.index_select(0, job.rows).to(at::kDouble) : whole; };
  const at::Tensor h = pick(job.hidden), w = job.weight.to(at::kDouble);
  LossRows rows;
  rows.logits = h.matmul(w.t());
  rows.live = job.targets.kind == LogitTargets::Kind::live;
  if (rows.live) rows.teacher = pick(job.targets.hidden).matmul(job.targets.weight.to(at::kDouble).t());
  if (job.targets.kind == LogitTargets::Kind::dense) rows.teacher = pick(job.targets.log_probs);
  if (job.targets.kind == LogitTargets::Kind::sparse) {
    rows.ids = job.targets.ids.index_select(0, job.rows);
    rows.probs = pick(job.targets.probs);
    rows.tail = pick(job.targets.tail);
  }
  rows.labels = job.labels.index_select(0, job.rows);
  rows.row_weights = pick(job.row_weights);
  rows.softcap = softcap;
  rows.teacher_softcap = job.targets.softcap;

  at::Tensor slope;
  const LossValues values = loss_formulas(rows, weights, gradients ? &slope : nullptr);
  const bool in_double = hidden.scalar_type() == at::kDouble;
  LinearLossResult result;
  result.loss = values.loss.sum().to(in_double ? at::kDouble : at::kFloat);
  result.terms = at::stack({values.teacher.sum(), values.cross_entropy.sum()}).to(at::kCPU, at::kDouble);
  if (gradients) {
    result.grad_hidden = at::zeros_like(job.hidden).index_copy_(0, job.rows, slope.matmul(w).to(hidden.scalar_type()));
    result.grad_weight = at::zeros({job.full_vocab, hidden.size(1)}, hidden.options().dtype(in_double ? at::kDouble : at::kFloat));
    result.grad_weight.narrow(0, 0, vocab).copy_(slope.t().matmul(h));
  }
  return result;
}

}  // namespace attar
