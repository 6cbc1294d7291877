#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

namespace attar {

/// What rms_norm gives: y like x, and rstd (rows) float32, the factor of each row, which the backward needs.
struct RmsNormResult {
  at::Tensor y, rstd;
};
/// y = x * rsqrt(mean(x^2) + eps) * (weight + offset), each row over the last dimension; computed in float32.
/// x (.., D), weight (D). offset: 0, or 1 for Gemma's norms. Source: Zhang and Sennrich 2019, arXiv 1910.07467.
/// Contiguous float32 on the CPU, and float32 or bfloat16 on a GPU, take a kernel of ours, everything else the plain version. Throws Error if the
/// widths disagree.
RmsNormResult rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset);

/// Gradients of x and of weight. The weight's are summed over a fixed partition of the rows: bits do not depend on the number of threads.
std::pair<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                                                    const at::Tensor& rstd, double offset);

/// The specification: LibTorch's operations, one after the other; autograd works through it.
at::Tensor rms_norm_plain(const at::Tensor& x, const at::Tensor& weight, double eps, double offset);

}  // namespace attar
