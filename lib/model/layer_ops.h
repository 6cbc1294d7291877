#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/swiglu.h"

namespace attar {

/// The kernels a layer is made of, with their gradients in autograd's graph. On one process's CPU they are fused; see kernels/.

/// x (.., K) weight^T, weight (N, K): a linear layer without bias. float32 on the CPU by kernels/matmul.h, everything else at::linear.
at::Tensor linear_op(const at::Tensor& x, const at::Tensor& weight);
/// RMSNorm over the last dimension.
at::Tensor norm_op(const at::Tensor& x, const at::Tensor& weight, double eps, double offset);
/// Rotary embedding of x (B, T, H, d). Overwrites x's memory: x must be the fresh output of an operation whose gradient does not need its
/// output (a matrix product, a norm), and is not to be used again.
at::Tensor rotary_op(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
/// activation(gate) * up.
at::Tensor gated_op(const at::Tensor& gate, const at::Tensor& up, GateActivation activation);

}  // namespace attar
