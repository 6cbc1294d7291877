#include "kernels/linear_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/linear_loss_parts.h"

namespace attar {
namespace {

std::string loss_shape(const at::Tensor& tensor) {
  if (!tensor.defined()) return "nothing";
  std::string text = "(";
  for (int64_t i = 0; i < tensor.dim(); ++i) text += (i ? ", " : "") + std::to_string(tensor.size(i));
  return text + ") " + c10::toString(tensor.scalar_type());
}

void check_loss_shape(const at::Tensor& tensor, const char* name, std::vector<int64_t> shape) {
  const bool right = tensor.defined() && tensor.sizes() == at::IntArrayRef(shape);
  if (right) return;
  std::string expected = "(";
  for (size_t i = 0; i < shape.size(); ++i) expected += (i ? ", " : "") + std::to_string(shape[i]);
  fail(std::string("linear_loss: shape of ") + name, expected + ")", loss_shape(tensor));
}

/// Ids of valid rows must lie inside the common vocabulary.
void check_loss_ids(const at::Tensor& ids, const char* name, int64_t least, int64_t vocab) {
  if (ids.numel() == 0) return;
  const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
  if (low >= least && high < vocab) return;
  fail(std::string("linear_loss: ") + name, str("ids in [0, ", vocab, ")"), str(low < least ? low : high),
       "teacher, student and tokenizer must share one vocabulary");
}

/// No id stands twice in a row of ids (N, K) int32 on the host.
void check_ids_once(const at::Tensor& ids) {
  const int64_t rows = ids.size(0), k = ids.size(1);
  const int32_t* data = ids.const_data_ptr<int32_t>();
  bool twice = false;
#pragma omp parallel reduction(|| : twice) if (rows * k > 16384)
  {
    std::vector<int32_t> sorted;
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
      sorted.assign(data + r * k, data + (r + 1) * k);
      std::sort(sorted.begin(), sorted.end());
      const auto first = std::lower_bound(sorted.begin(), sorted.end(), 0);
      twice = twice || std::adjacent_find(first, sorted.end()) != sorted.end();
    }
  }
  check(!twice, "linear_loss: the teacher's ids of a position", "each id once", "one id twice");
}

void check_live(LinearLossJob& job, int64_t rows) {
  LogitTargets& targets = job.targets;
  check(targets.hidden.defined() && targets.hidden.dim() == 2 && targets.hidden.size(0) == rows, "linear_loss: teacher's hidden states",
        str("(", rows, ", Dt)"), loss_shape(targets.hidden));
  check(targets.weight.defined() && targets.weight.dim() == 2 && targets.weight.size(1) == targets.hidden.size(1) &&
            targets.weight.size(0) >= job.vocab,
        "linear_loss: teacher's output matrix", str("(at least ", job.vocab, ", ", targets.hidden.size(1), ")"), loss_shape(targets.weight));
  targets.hidden = targets.hidden.detach();
  targets.weight = targets.weight.detach().narrow(0, 0, job.vocab);
}

void check_sparse(LinearLossJob& job, int64_t rows, bool values) {
  LogitTargets& targets = job.targets;
  const LossWeights& w = job.weights;
  check(!(w.rkl || w.jsd || w.skl || w.srkl || w.tvd), "linear_loss: terms", "kl and ce only with a sparse cache",
        "a term that needs the teacher's whole distribution", "use a live teacher or a cache of codec full");
  check(targets.ids.defined() && targets.ids.dim() == 2 && targets.ids.size(0) == rows, "linear_loss: sparse ids",
        str("(", rows, ", K)"), loss_shape(targets.ids));
  check_loss_shape(targets.probs, "sparse probabilities", {rows, targets.ids.size(1)});
  if (targets.tail.defined()) check_loss_shape(targets.tail, "the tail's mass", {rows});
  if (!values) return;
  check_loss_ids(targets.ids, "the teacher's ids", -1, job.vocab);
  // On the CPU the row pass looks itself; a GPU's says nothing that could be read without waiting for it.
  if (targets.tail.defined() && targets.ids.is_cpu() && !job.hidden.is_cpu()) check_ids_once(targets.ids.to(at::kInt).contiguous());
}

}  // namespace

void check_loss_values(const LogitTargets& targets, const at::Tensor& labels, int64_t vocab) {
  check_loss_ids(labels.masked_select(labels.ne(-100)), "labels", 0, vocab);
  if (targets.kind != LogitTargets::Kind::sparse) return;
  check_loss_ids(targets.ids, "the teacher's ids", -1, vocab);
  if (targets.tail.defined()) check_ids_once(targets.ids.to(at::kInt).contiguous());
}

LinearLossJob check_linear_loss(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                                const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab, bool gradients,
                                const at::Tensor& given_rows) {
  check(hidden.defined() && hidden.dim() == 2, "linear_loss: hidden states", "(N, D)", loss_shape(hidden));
  const int64_t rows = hidden.size(0);
  check(weight.defined() && weight.dim() == 2 && weight.size(1) == hidden.size(1), "linear_loss: output matrix", str("(V, ", hidden.size(1), ")"),
        loss_shape(weight));
  check(vocab >= 1 && vocab <= weight.size(0), "linear_loss: common vocabulary", str("1 to ", weight.size(0)), str(vocab));
  check_loss_shape(labels, "labels", {rows});
  check(labels.scalar_type() == at::kLong, "linear_loss: labels", "int64", loss_shape(labels));
  if (row_weights.defined()) check_loss_shape(row_weights, "row weights", {rows});
  check(weights.temperature > 0, "linear_loss: temperature", "above 0", str(weights.temperature));
  check(weights.beta >= 0 && weights.beta <= 1, "linear_loss: beta", "0 to 1", str(weights.beta));
  check(weights.lambda >= 0 && weights.lambda < 1, "linear_loss: lambda", "0 or more and below 1", str(weights.lambda));

  LinearLossJob job;
  job.vocab = vocab;
  job.full_vocab = weight.size(0);
  job.hidden = hidden.detach();
  job.weight = weight.detach().narrow(0, 0, vocab);
  job.targets = targets;
  job.labels = labels;
  job.row_weights = row_weights;
  job.weights = weights;
  job.softcap = softcap;
  job.gradients = gradients;
  const auto near_hidden = [&](const at::Tensor& t) { return !t.defined() || t.is_cpu() || t.device() == hidden.device(); };
  for (const at::Tensor& t : {weight, targets.hidden, targets.weight})
    check(!t.defined() || t.device() == hidden.device(), "linear_loss: matrices", "the hidden states' device, " + hidden.device().str(),
          t.defined() ? t.device().str() : "");
  for (const at::Tensor& t : {labels, row_weights, targets.log_probs, targets.ids, targets.probs, targets.tail})
    check(near_hidden(t), "linear_loss: labels and targets", "the host or " + hidden.device().str(), t.defined() ? t.device().str() : "");
  const bool wanted = weights.needs_teacher();
  if (!wanted) job.targets = LogitTargets{};  // a teacher whose terms all weigh 0 is not computed
  switch (job.targets.kind) {
    case LogitTargets::Kind::none: check(!wanted, "linear_loss: terms", "ce only without a teacher", "a term that needs a teacher"); break;
    case LogitTargets::Kind::live: check_live(job, rows); break;
    case LogitTargets::Kind::dense:
      check(targets.log_probs.defined() && targets.log_probs.dim() == 2 && targets.log_probs.size(0) == rows && targets.log_probs.size(1) >= vocab,
            "linear_loss: teacher's log-probabilities", str("(", rows, ", at least ", vocab, ")"), loss_shape(targets.log_probs));
      job.targets.log_probs = targets.log_probs.narrow(1, 0, vocab);
      break;
    case LogitTargets::Kind::sparse: check_sparse(job, rows, !given_rows.defined()); break;
  }
  const at::Tensor valid = labels.ne(-100);
  if (given_rows.defined()) {
    job.rows = given_rows;
    job.counted = valid;
    job.labels = labels.clamp_min(0);
    job.row_weights = row_weights.defined() ? at::where(valid, row_weights, 0.0) : valid.to(at::kFloat);
    return job;
  }
  job.rows = valid.nonzero().squeeze(1);
  job.all_valid = job.rows.size(0) == rows;
  check_loss_ids(labels.masked_select(valid), "labels", 0, vocab);
  return job;
}

}  // namespace attar
