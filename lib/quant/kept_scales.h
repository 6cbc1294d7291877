#pragma once
#include <ATen/core/Tensor.h>

#include "model/checkpoint.h"

namespace attar {

/// Grids whose scales are there already: only the codes follow the weights.

/// The same blocks and scales on another device.
QuantizedTensor moved(const QuantizedTensor& tensor, at::Device device);
/// Whether the type has scales apart from its codes (all block types, and i8 with one a row).
bool has_scales(GgmlType type);
/// Whether a block has one scale (and perhaps one minimum), in fp16, and whole numbers as levels (or a row one, i8): what LSQ can learn.
bool scales_can_learn(GgmlType type);

/// Values of the codes nearest to `weight` (rows, columns; float32) beside the scales of `scales`, bit for bit what a reader sees.
/// `codes`: null, or takes the blocks. On a GPU (weight and scales there, no codes wanted) its own kernels round, else the CPU.
at::Tensor round_beside_scales(const at::Tensor& weight, const QuantizedTensor& scales, QuantizedTensor* codes = nullptr);

/// Scales of types that can learn, (rows, blocks, 1 or 2) float32: step, and the minimum where the type has one. A row of i8 is one block.
at::Tensor read_scales(const QuantizedTensor& blocks);
/// Blocks with these scales, rounded to fp16 as they are stored (i8: float32). Error where fp16 cannot hold one.
QuantizedTensor with_scales(const QuantizedTensor& blocks, const at::Tensor& scales);

/// Gradients of a loss by weights and scales, given its gradient by the rounded values (Esser et al. 2020, LSQ, equations 3 to 5): inside the
/// clip a weight's is passed on and the step's is number - share; outside the weight's is 0, the step's the last number, the minimum's 1.
/// Scales' gradients are multiplied by 1 / sqrt(N Qp), N the weights of a block and Qp the highest number.
struct ScaleGradients {
  at::Tensor weight, scales;
};
ScaleGradients lsq_gradients(const at::Tensor& weight, const QuantizedTensor& scales, const at::Tensor& gradient);

/// round_beside_scales(weight, with_scales(blocks, scales)), and lsq_gradients of that grid. On a GPU nothing looks at the scales: one that fp16
/// cannot hold makes its weights infinite or NaN, and so the loss.
at::Tensor round_beside_learned(const at::Tensor& weight, const at::Tensor& scales, const QuantizedTensor& blocks);
ScaleGradients learned_gradients(const at::Tensor& weight, const at::Tensor& scales, const QuantizedTensor& blocks, const at::Tensor& gradient);

}  // namespace attar
