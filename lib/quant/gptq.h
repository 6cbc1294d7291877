#pragma once
#include <ATen/core/Tensor.h>

#include "calibrate/layer_walk.h"
#include "quant/quantize.h"

namespace attar {

/// What error propagation needs of a linear's inputs: U (in, in) upper triangular with U^T U = (H + damping)^-1, H the sum of x x^T.
struct InverseFactor {
  at::Tensor u;                    ///< undefined: H could not be factored, not even with `damping` raised twice
  std::vector<float> importance;   ///< (in) mean squares of the inputs: H's diagonal over the tokens
  double damping = 0;              ///< share of the mean diagonal that was added at last
};
/// hessian (in, in) float32, overwritten. One Cholesky factorization from the last column to the first and one triangular inverse. Columns
/// that never saw an input count as independent of the others. Not positive definite: damping is raised tenfold, twice.
InverseFactor inverse_factor(at::Tensor hessian, int64_t tokens, double damping);

/// Codes of `weight` (out, in) on the type's grid: columns from the first to the last; a column's rounding error goes to those not yet rounded.
/// Scales of a block are chosen, by importance, from the weights as they stand when its first column is reached.
/// Source: Frantar et al. 2023 (GPTQ, arXiv 2210.17323), section 3, algorithm 1.
/// OpenMP over rows; a value or scale that the type cannot hold is an Error.
QuantizedTensor gptq_tensor(const at::Tensor& weight, const InverseFactor& factor, GgmlType type);

struct GptqReport {
  std::vector<std::string> rounded;  ///< weights whose Hessian could not be factored: rounded with searched scales
  double highest_damping = 0;
};
/// Embedding first (searched scales), then layer after layer, each linear's Hessian taken from the inputs that the layers before it, already on
/// their grids, give; at last an output matrix of its own. One Hessian is held at a time. Weights without a type in `types` stay as they are.
/// `kept`: a folder where the codes of finished layers are put, and from where a call that was ended goes on, to the same bytes; empty: none.
GptqReport gptq_checkpoint(Checkpoint& model, const std::map<std::string, GgmlType>& types, const TokenRows& rows, const LayerWalkOptions& options,
                           double damping, ProcessGroup& group, const fs::path& kept = {});

}  // namespace attar
