#pragma once
#include <ATen/core/Tensor.h>

namespace attar {

/// What each row's distribution is like.
struct SoftmaxFacts {
  at::Tensor log_sum;  ///< (P) float64: log of the sum of exp(logit / temperature)
  at::Tensor entropy;  ///< (P) float64, nats
  at::Tensor top_id;   ///< (P) int32: first id of the highest logit
};

/// Rows of logits (P, V) float32 on the CPU become softmax(logits / temperature) in place (columns lie side by side, rows may be further apart).
/// Equal for any number of threads. Error if a row holds NaN or infinity.
SoftmaxFacts softmax_rows_(at::Tensor& logits, double temperature);
/// The same facts by whole tensors; nothing is overwritten. The specification.
SoftmaxFacts softmax_facts_plain(const at::Tensor& logits, double temperature);

}  // namespace attar
