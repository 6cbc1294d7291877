// The chunked version: logits of some rows at a time in buffers that are used again, gradients formed in place.
#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/linear_loss.h"
#include "kernels/linear_loss_parts.h"
#include "kernels/matmul.h"

namespace attar {
namespace {

/// Rows a chunk. The weight gradient is read and written once a chunk, which costs little when a chunk has about D / 2 rows; the buffers then take
/// about as much memory as that gradient. At least 16 MiB, at most 512 MiB of buffers. A fixed rule: results do not depend on the machine.
int64_t loss_rows_per_chunk(int64_t rows, int64_t hidden, int64_t vocab, int64_t buffers, int64_t element) {
  const double row_bytes = static_cast<double>(vocab) * element * buffers;
  const double wanted = 0.75 * static_cast<double>(hidden * vocab * element);
  const double budget = std::clamp(wanted, double(16 << 20), double(512 << 20));
  const int64_t most = std::clamp<int64_t>(static_cast<int64_t>(budget / row_bytes), 16, 1024);
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return std::max<int64_t>(1, ((rows + chunks - 1) / chunks + 7) / 8 * 8);
}

/// (n, width) rows of a buffer, whatever the chunk's length.
at::Tensor chunk_head(const at::Tensor& buffer, int64_t n) { return buffer.defined() ? buffer.narrow(0, 0, n) : buffer; }

}  // namespace

LinearLossResult linear_loss(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                             const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab, bool gradients) {
  const at::NoGradGuard no_grad;
  const LinearLossJob job = check_linear_loss(hidden, weight, targets, labels, row_weights, weights, softcap, vocab, gradients);
  const at::ScalarType type = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const bool on_cpu = hidden.device().is_cpu();
  const bool live = job.targets.kind == LogitTargets::Kind::live, dense = job.targets.kind == LogitTargets::Kind::dense;
  const auto options = hidden.options().dtype(type);
  const int64_t D = hidden.size(1), M = job.rows.size(0);
  const at::Tensor w = job.weight.to(type), wt = live ? job.targets.weight.to(type) : at::Tensor();

  LinearLossResult result;
  at::Tensor grad_vocab;  // the common vocabulary's rows of grad_weight
  if (gradients) {
    result.grad_hidden = at::empty({hidden.size(0), D}, hidden.options());
    if (!job.all_valid) result.grad_hidden.zero_();
    result.grad_weight = at::empty({job.full_vocab, D}, options);
    grad_vocab = result.grad_weight.narrow(0, 0, vocab);
    if (M == 0) grad_vocab.zero_();
    if (vocab < job.full_vocab) result.grad_weight.narrow(0, vocab, job.full_vocab - vocab).zero_();
  }
  const int64_t chunk = loss_rows_per_chunk(M, D, vocab, live || dense ? 2 : 1, static_cast<int64_t>(c10::elementSize(type)));
  const int64_t room = std::min(chunk, M);
  const at::Tensor logits = at::empty({room, vocab}, options), teacher = live || dense ? at::empty({room, vocab}, options) : at::Tensor();
  const at::Tensor grad_rows = gradients && (!job.all_valid || hidden.scalar_type() != type) ? at::empty({room, D}, options) : at::Tensor();
  const auto sums = options.dtype(at::kDouble);
  at::Tensor loss = at::zeros({}, sums), teacher_sum = at::zeros({}, sums), ce_sum = at::zeros({}, sums);

  for (int64_t begin = 0; begin < M; begin += chunk) {
    const int64_t n = std::min(chunk, M - begin);
    const at::Tensor numbers = job.rows.narrow(0, begin, n);
    const auto pick = [&](const at::Tensor& whole) {
      if (!whole.defined()) return whole;
      return job.all_valid ? whole.narrow(0, begin, n) : whole.index_select(0, numbers);
    };
    LossRows rows;
    const at::Tensor h = pick(job.hidden).to(type);
    rows.logits = chunk_head(logits, n);
    matmul_into(rows.logits, h, w.t());
    rows.live = live;
    rows.softcap = softcap;
    rows.teacher_softcap = job.targets.softcap;
    rows.labels = pick(job.labels);
    if (row_weights.defined()) rows.row_weights = pick(job.row_weights).to(type);
    rows.teacher = chunk_head(teacher, n);
    if (live) matmul_into(rows.teacher, pick(job.targets.hidden).to(type), wt.t());
    if (dense) rows.teacher.copy_(pick(job.targets.log_probs));
    if (job.targets.kind == LogitTargets::Kind::sparse) {
      rows.ids = pick(job.targets.ids);
      rows.probs = pick(job.targets.probs);
      rows.tail = pick(job.targets.tail);
    }
    LossValues values;
    at::Tensor slope = rows.logits;
    if (on_cpu) {
      values = loss_rows_cpu(rows, weights, gradients);
    } else {
      values = loss_formulas(rows, weights, gradients ? &slope : nullptr);
    }
    loss += values.loss.sum(at::kDouble);
    teacher_sum += values.teacher.sum(at::kDouble);
    ce_sum += values.cross_entropy.sum(at::kDouble);
    if (!gradients) continue;
    if (grad_rows.defined()) {
      at::Tensor piece = chunk_head(grad_rows, n);
      matmul_into(piece, slope, w);
      result.grad_hidden.index_copy_(0, numbers, piece.to(hidden.scalar_type()));
    } else {
      at::Tensor piece = result.grad_hidden.narrow(0, begin, n);
      matmul_into(piece, slope, w);
    }
    matmul_into(grad_vocab, slope.t(), h, begin > 0);
  }
  result.loss = loss.to(type);
  result.terms = at::stack({teacher_sum, ce_sum}).to(at::kCPU);
  return result;
}

}  // namespace attar
