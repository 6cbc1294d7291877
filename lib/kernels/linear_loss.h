#pragma once
#include <ATen/core/Tensor.h>

#include <string>

namespace attar {

/// What a teacher says about each of N positions. One of four forms; `kind` tells which tensors are there.
struct LogitTargets {
  enum class Kind { none, live, dense, sparse };
  Kind kind = Kind::none;
  at::Tensor hidden, weight;  ///< live: teacher's hidden states (N, Dt) and output matrix (Vt, Dt); logits are formed chunk by chunk
  double softcap = 0;         ///< live: teacher's logit soft cap
  at::Tensor log_probs;       ///< dense: (N, Vt) float16 or float32 log-probabilities at the loss's temperature
  at::Tensor ids;             ///< sparse: (N, K) int32, -1 where fewer
  at::Tensor probs;           ///< sparse: (N, K) float32 probabilities (sampled: counts / samples)
  at::Tensor tail;            ///< sparse: (N) float32 mass outside ids (top-k); undefined: none (sampled: an unbiased estimate, cross-entropy form)
};

/// Weights of the terms; equations in docs/distill.md (shared with spec's LossConfig). Temperature divides student's and live teacher's logits;
/// every teacher's term is times T^2, cross-entropy is at temperature 1.
struct LossWeights {
  double kl = 0, ce = 0, rkl = 0, jsd = 0, skl = 0, srkl = 0, tvd = 0;
  double temperature = 1, beta = 0.5, lambda = 0.1;
  bool needs_teacher() const { return kl || rkl || jsd || skl || srkl || tvd; }
};

struct LinearLossResult {
  at::Tensor loss;         ///< scalar float32 (float64 for float64 inputs): weighted sum over valid positions
  at::Tensor grad_hidden;  ///< (N, D) like hidden; undefined if not wanted
  at::Tensor grad_weight;  ///< (V, D) float32 (float64 for float64 inputs); undefined if not wanted
  at::Tensor terms;        ///< (2) float64 on the hidden states' device: sums of the teacher's terms (with T^2) and of cross-entropy, no weights
};

/// Losses of a student's last linear layer against labels and a teacher, in chunks of rows, with gradients formed on the way:
/// no (N, V) tensor ever exists. hidden (N, D), weight (V, D), labels (N) int64 (-100: position counts for nothing), row_weights (N) float32 or
/// undefined. Labels, row weights and cached targets may lie on the host beside a GPU's hidden states. softcap: student's.
/// Vocabularies of different padded length are cut to `vocab` (the common true one).
/// bfloat16 hidden states: products of bfloat16 with float32 sums and results on a GPU, float32 products on the CPU; dW is float32.
/// Specification: linear_loss_cpu.cc's plain version. Sources: Cut Cross-Entropy (arXiv 2411.09009) section 3; Liger's chunked linear losses.
/// Throws Error if shapes disagree, an id is outside [0, V), or sparse targets meet a term that needs the whole distribution.
/// `rows`: undefined, or (M) int64 numbers of the positions to compute, in which all with a label are: those without count for nothing. All is then
/// on the hidden states' device and nothing looks at values, so that shapes are fixed by the arguments' shapes and no one waits (check_loss_values).
LinearLossResult linear_loss(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                             const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab, bool gradients,
                             const at::Tensor& rows = {});
/// What linear_loss looks at where `rows` are not given: labels (N) and a cache's ids lie inside the vocabulary, each id once beside a tail.
void check_loss_values(const LogitTargets& targets, const at::Tensor& labels, int64_t vocab);

/// The same by whole tensors and autograd-free formulas in float64: slow, plain, the specification.
LinearLossResult linear_loss_plain(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                                   const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab, bool gradients);

}  // namespace attar
