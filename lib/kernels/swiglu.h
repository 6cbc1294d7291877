#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <utility>

namespace attar {

/// Activation of a gated feed-forward layer: silu x sigmoid(x), gelu_tanh (Hendrycks and Gimpel's tanh form), gelu (with erf).
enum class GateActivation { silu, gelu_tanh, gelu };
/// By ModelSpec's name; Error with the nearest known one.
GateActivation gate_activation_named(const std::string& name);

/// activation(gate) * up, all of one shape. Source: Shazeer 2020, arXiv 2002.05202.
/// silu on contiguous float32 on the CPU, and on float32 or bfloat16 on a GPU, takes a kernel of ours, everything else the plain version.
at::Tensor gated(const at::Tensor& gate, const at::Tensor& up, GateActivation activation);
/// Gradients of gate and up.
std::pair<at::Tensor, at::Tensor> gated_backward(const at::Tensor& grad, const at::Tensor& gate, const at::Tensor& up, GateActivation activation);

/// The specification: LibTorch's operations; autograd works through it.
at::Tensor gated_plain(const at::Tensor& gate, const at::Tensor& up, GateActivation activation);

}  // namespace attar
