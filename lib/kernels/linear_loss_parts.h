#pragma once
// Inside of linear_loss: shared by its checks, its plain version, its chunked version and the row arithmetic.
#include <functional>

#include "kernels/linear_loss.h"

namespace attar {

/// Arguments that were checked. Only `rows`, the positions with a label, are ever computed. Labels, row weights and what a cache says may lie on the
/// host beside hidden states on a GPU: then they are checked there and nothing waits for the device.
struct LinearLossJob {
  at::Tensor hidden, weight;  ///< (N, D), (vocab, D): the weight already cut to the common vocabulary
  LogitTargets targets;       ///< log_probs and live weight already cut
  at::Tensor labels;          ///< (N) int64
  at::Tensor row_weights;     ///< (N) or undefined
  LossWeights weights;
  double softcap = 0;
  int64_t vocab = 0, full_vocab = 0;
  bool gradients = false, all_valid = false;
  at::Tensor rows;            ///< (M) int64 numbers of the valid positions, ascending, or those that were given; on the labels' device
  at::Tensor counted;         ///< where rows were given: (N) bool, whether the position counts; undefined: all of `rows` do
};
/// Throws Error where the arguments disagree with each other.
LinearLossJob check_linear_loss(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                                const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab, bool gradients,
                                const at::Tensor& rows = {});

/// Logits and targets of some valid rows, gathered. All floating tensors have the dtype of `logits`, ids int64 or int32.
struct LossRows {
  at::Tensor logits;                   ///< (C, V) the student's, before its soft cap
  at::Tensor teacher;                  ///< (C, V) live logits before the soft cap, or dense log-probabilities; undefined for sparse and none
  at::Tensor ids, probs, tail;         ///< sparse: (C, K), (C, K), (C) or undefined
  at::Tensor labels, row_weights;      ///< (C), (C) or undefined
  bool live = false;
  double softcap = 0, teacher_softcap = 0;
};
/// What the formulas give for each row.
struct LossValues {
  at::Tensor loss, teacher, cross_entropy;  ///< (C): weighted sum of terms times the row's weight; the two unweighted parts
};

/// Log-probabilities are taken as at least this: a teacher's -inf gives a large, finite term.
inline constexpr double kLeastLogProb = -1e4;

/// The formulas by whole tensors in the rows' own dtype, on any device; with `gradient`, that becomes d loss / d logits (C, V).
LossValues loss_formulas(const LossRows& rows, const LossWeights& weights, at::Tensor* gradient);

/// The same on the CPU, row by row in vector code; logits are overwritten with the gradient, the teacher's rows with anything.
/// float32 or float64, rows of stride-1 columns. Equal for any number of threads.
LossValues loss_rows_cpu(LossRows& rows, const LossWeights& weights, bool gradients);

/// How a device computes the chunks.
struct LossEngine {
  std::function<LossValues(LossRows& rows, const LossWeights& weights, bool gradients)> rows;  ///< logits become their gradient in place
  bool brain_products = false;  ///< products of bfloat16 matrices, their sums and results in float32
  double least_room = 16 << 20, most_room = 512 << 20;  ///< bytes of the buffers for logits
  int64_t most_rows = 1024, rows_step = 8;              ///< of a chunk
};
/// The engine of a device and of the hidden states' type.
LossEngine loss_engine(at::Device device, at::ScalarType hidden);
/// linear_loss by that engine.
LinearLossResult linear_loss_by(const LossEngine& engine, const LinearLossJob& job);

/// out (M, N) float32 = a (M, K) b (K, N) of bfloat16, or out + a b with `add`: sums and result in float32. On a GPU one product of its library.
void brain_product_into(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add = false);

}  // namespace attar
