// The chunked version: logits of some rows at a time in buffers that are used again, gradients formed in place.
#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda_calls.h"
#include "kernels/linear_loss.h"
#include "kernels/linear_loss_parts.h"
#include "kernels/matmul.h"

namespace attar {
namespace {

/// Rows a chunk. The weight gradient is read and written once a chunk, which costs little when a chunk has a quarter of D rows; the buffers then
/// take about half as much memory as that gradient, within the engine's bounds. A fixed rule: results do not depend on the machine.
int64_t loss_rows_per_chunk(const LossEngine& engine, int64_t rows, int64_t hidden, int64_t vocab, double row_bytes, double element) {
  const double wanted = 0.55 * static_cast<double>(hidden * vocab) * element;
  const double budget = std::clamp(wanted, engine.least_room, engine.most_room);
  const int64_t most = std::clamp<int64_t>(static_cast<int64_t>(budget / row_bytes), 16, engine.most_rows);
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  const int64_t even = (rows + chunks - 1) / chunks, step = even >= 4 * engine.rows_step ? engine.rows_step : 8;
  return std::max<int64_t>(1, (even + step - 1) / step * step);
}

/// (n, width) rows of a buffer, whatever the chunk's length.
at::Tensor chunk_head(const at::Tensor& buffer, int64_t n) { return buffer.defined() ? buffer.narrow(0, 0, n) : buffer; }

/// Onto the device; from the host by way of pinned memory, so that nothing waits.
at::Tensor onto(const at::Tensor& tensor, at::Device device) {
  if (tensor.device() == device) return tensor;
  return device.is_cuda() ? tensor.contiguous().pin_memory().to(device, /*non_blocking=*/true) : tensor.to(device);
}

/// Rows [begin, begin + n) of what is there a position, wherever it lies, on the computing device.
class ValidRows {
 public:
  explicit ValidRows(const LinearLossJob& job) : job_(job), device_(job.hidden.device()), here_(onto(job.rows, device_)) {}
  at::Tensor pick(const at::Tensor& whole, int64_t begin, int64_t n) const {
    if (!whole.defined()) return whole;
    if (job_.all_valid) return onto(whole.narrow(0, begin, n), device_);
    if (whole.device() == device_) return whole.index_select(0, here_.narrow(0, begin, n));
    return onto(whole.index_select(0, job_.rows.to(whole.device()).narrow(0, begin, n)), device_);
  }
  at::Tensor numbers(int64_t begin, int64_t n) const { return here_.narrow(0, begin, n); }

 private:
  const LinearLossJob& job_;
  at::Device device_;
  at::Tensor here_;
};

/// Buffers of one chunk and the products into and out of them.
struct ChunkRoom {
  const LossEngine& engine;
  at::Tensor logits, teacher, brain, gradient;  ///< brain: the logits' gradient in bfloat16; gradient: of hidden rows that do not lie in one piece

  void multiply(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add = false) const {
    if (engine.brain_products) brain_product_into(out, a, b, add);
    else matmul_into(out, a, b, add);
  }
  /// The slope as the products take it.
  at::Tensor for_products(const at::Tensor& slope) const {
    if (!engine.brain_products) return slope;
    return brain.narrow(0, 0, slope.numel()).view(slope.sizes()).copy_(slope);
  }
};

ChunkRoom chunk_room(const LossEngine& engine, const LinearLossJob& job, int64_t rows, at::ScalarType type) {
  const auto options = job.hidden.options().dtype(type);
  const bool whole = job.targets.kind == LogitTargets::Kind::live || job.targets.kind == LogitTargets::Kind::dense;
  ChunkRoom room{engine, at::empty({rows, job.vocab}, options), {}, {}, {}};
  if (whole) room.teacher = at::empty({rows, job.vocab}, options);
  if (job.gradients && engine.brain_products) {
    // The teacher's rows are spent when the gradient is there.
    if (whole) room.brain = room.teacher.view({-1}).view(at::kBFloat16);
    else room.brain = at::empty({rows * job.vocab}, options.dtype(at::kBFloat16));
  }
  if (job.gradients && (!job.all_valid || job.hidden.scalar_type() != type)) room.gradient = at::empty({rows, job.hidden.size(1)}, options);
  return room;
}

}  // namespace

void brain_product_into(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) {
  TORCH_INTERNAL_ASSERT(out.scalar_type() == at::kFloat && a.scalar_type() == at::kBFloat16 && b.scalar_type() == at::kBFloat16);
  if (!out.is_cuda()) return matmul_into(out, a.to(at::kFloat), b.to(at::kFloat), add);  // products of bfloat16 are exact in float32
  if (add) at::addmm_out(out, out, a, b, at::kFloat);
  else at::mm_out(out, a, b, at::kFloat);
}

LossEngine loss_engine(at::Device device, at::ScalarType hidden) {
  LossEngine engine;
  if (device.is_cpu()) {
    engine.rows = loss_rows_cpu;
  } else if (device.is_cuda() && hidden != at::kDouble) {
    engine.rows = [](LossRows& rows, const LossWeights& weights, bool gradients) { return loss_rows_by(cuda_calls(), rows, weights, gradients); };
    engine.brain_products = hidden == at::kBFloat16;
    // A GPU wants larger products; their tiles have 128 rows.
    engine.least_room = 256 << 20, engine.most_rows = 4096, engine.rows_step = 128;
  } else {
    engine.rows = [](LossRows& rows, const LossWeights& weights, bool gradients) {
      at::Tensor slope;
      const LossValues values = loss_formulas(rows, weights, gradients ? &slope : nullptr);
      if (gradients) rows.logits.copy_(slope);
      return values;
    };
  }
  return engine;
}

LinearLossResult linear_loss(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                             const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab, bool gradients,
                             const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  const LinearLossJob job = check_linear_loss(hidden, weight, targets, labels, row_weights, weights, softcap, vocab, gradients, rows);
  return linear_loss_by(loss_engine(hidden.device(), hidden.scalar_type()), job);
}

LinearLossResult linear_loss_by(const LossEngine& engine, const LinearLossJob& job) {
  const at::NoGradGuard no_grad;
  const at::ScalarType given = job.hidden.scalar_type(), type = given == at::kDouble ? at::kDouble : at::kFloat;
  const at::ScalarType product = engine.brain_products ? at::kBFloat16 : type;
  const bool live = job.targets.kind == LogitTargets::Kind::live, dense = job.targets.kind == LogitTargets::Kind::dense;
  const auto options = job.hidden.options().dtype(type);
  const int64_t D = job.hidden.size(1), M = job.rows.size(0);
  const at::Tensor w = job.weight.to(product), wt = live ? job.targets.weight.to(product) : at::Tensor();

  LinearLossResult result;
  at::Tensor grad_vocab;  // the common vocabulary's rows of grad_weight
  if (job.gradients) {
    result.grad_hidden = at::empty({job.hidden.size(0), D}, job.hidden.options());
    if (!job.all_valid) result.grad_hidden.zero_();
    result.grad_weight = at::empty({job.full_vocab, D}, options);
    grad_vocab = result.grad_weight.narrow(0, 0, job.vocab);
    if (M == 0) grad_vocab.zero_();
    if (job.vocab < job.full_vocab) result.grad_weight.narrow(0, job.vocab, job.full_vocab - job.vocab).zero_();
  }
  const auto element = static_cast<double>(c10::elementSize(type));
  // Beside the logits: the teacher's, in whose place the gradient is written for products of bfloat16, or that gradient alone.
  const double buffers = live || dense ? 2 : engine.brain_products ? 1.5 : 1;
  const int64_t chunk = loss_rows_per_chunk(engine, M, D, job.vocab, static_cast<double>(job.vocab) * element * buffers, element);
  const ChunkRoom room = chunk_room(engine, job, std::min(chunk, M), type);
  const ValidRows valid(job);
  const auto sums = options.dtype(at::kDouble);
  at::Tensor loss = at::zeros({}, sums), teacher_sum = at::zeros({}, sums), ce_sum = at::zeros({}, sums);

  for (int64_t begin = 0; begin < M; begin += chunk) {
    const int64_t n = std::min(chunk, M - begin);
    const auto pick = [&](const at::Tensor& whole) { return valid.pick(whole, begin, n); };
    LossRows rows;
    const at::Tensor h = pick(job.hidden).to(product);
    rows.logits = chunk_head(room.logits, n);
    room.multiply(rows.logits, h, w.t());
    rows.live = live;
    rows.softcap = job.softcap;
    rows.teacher_softcap = job.targets.softcap;
    rows.labels = pick(job.labels);
    if (job.row_weights.defined()) rows.row_weights = pick(job.row_weights).to(type);
    rows.teacher = chunk_head(room.teacher, n);
    if (live) room.multiply(rows.teacher, pick(job.targets.hidden).to(product), wt.t());
    if (dense) rows.teacher.copy_(pick(job.targets.log_probs));
    if (job.targets.kind == LogitTargets::Kind::sparse) {
      rows.ids = pick(job.targets.ids);
      rows.probs = pick(job.targets.probs);
      rows.tail = pick(job.targets.tail);
    }
    LossValues values = engine.rows(rows, job.weights, job.gradients);
    if (job.counted.defined()) {
      const at::Tensor counted = pick(job.counted);
      for (at::Tensor* value : {&values.loss, &values.teacher, &values.cross_entropy}) *value = at::where(counted, *value, 0.0);
    }
    loss += values.loss.sum(at::kDouble);
    teacher_sum += values.teacher.sum(at::kDouble);
    ce_sum += values.cross_entropy.sum(at::kDouble);
    if (!job.gradients) continue;
    const at::Tensor slope = room.for_products(rows.logits);
    at::Tensor piece = room.gradient.defined() ? chunk_head(room.gradient, n) : result.grad_hidden.narrow(0, begin, n);
    room.multiply(piece, slope, w);
    if (room.gradient.defined()) result.grad_hidden.index_copy_(0, valid.numbers(begin, n), piece.to(given));
    room.multiply(grad_vocab, slope.t(), h, begin > 0);
  }
  result.loss = loss.to(type);
  result.terms = at::stack({teacher_sum, ce_sum});
  return result;
}

}  // namespace attar
