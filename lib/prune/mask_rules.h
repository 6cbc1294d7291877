#pragma once
#include <ATen/core/Tensor.h>

#include "prune/masks.h"

namespace attar {

/// True for the scores that stay, (out, in): without the n lowest of each m neighbours, or the lowest share of the whole matrix or of each row
/// (rounded down). Of equal scores the first goes.
at::Tensor highest_of_groups(const at::Tensor& scores, int64_t zeros, int64_t of);
at::Tensor highest_of_matrix(const at::Tensor& scores, double share);
at::Tensor highest_of_rows(const at::Tensor& scores, double share);

/// U (in, in) float64, upper triangular with U^T U = (H + damping mean(diag H) I)^-1. Inputs that were never there (H_jj 0) count as independent.
/// Error if H is not positive definite even with 100 times the damping.
at::Tensor inverse_root(const at::Tensor& hessian, double damping);

/// One matrix by SparseGPT. hessian (in, in): sum of x x^T, any scale. Gives the mask; `weight` (out, in) becomes the pruned and compensated
/// matrix. OpenMP over rows, float64.
at::Tensor sparsegpt_mask(at::Tensor& weight, const at::Tensor& hessian, const MaskPattern& pattern, double damping);

}  // namespace attar
