#pragma once
#include "quant/quantize.h"

namespace attar {

/// ONNX's int8: whole numbers from -127 to 127, times one float32 scale for each row (DequantizeLinear along the rows). GgmlType::i8 in `types` means
/// this grid; weights are (rows, columns) float32 on the CPU.

/// Numbers by the row's largest magnitude / 127, ties to even, as an export of type int8 rounds; `search`: the scale of least (importance-weighted)
/// squared error among those within a fifth of it, refitted to their numbers; never worse. Error: infinity or NaN, with its index.
QuantizedTensor round_to_int8(const at::Tensor& weight, const std::vector<float>* importance, Rounding rounding);
at::Tensor int8_values(const QuantizedTensor& tensor);

/// Nearest numbers beside the scales that are there, and their values.
at::Tensor round_beside_int8(const at::Tensor& weight, const QuantizedTensor& scales, QuantizedTensor* codes);
/// LSQ's gradients (kept_scales.h): one step a row.
void int8_gradients(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& gradient, at::Tensor& by_weight, at::Tensor& by_scale);

}  // namespace attar
