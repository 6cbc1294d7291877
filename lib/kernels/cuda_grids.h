#pragma once
#include "formats/ggml_types.h"
#include "kernels/cuda_calls.h"

namespace attar {

// Fake quantization of a GPU's weights: weight (rows, columns) float32, contiguous; each gives the value that a reader of the file sees, bit for bit
// as the CPU rounds. Nothing looks at values: what is no number stays none. i8 is ONNX's: one step a row.

/// Whether the CUDA part rounds to this type: those of blocks, and i8.
bool cuda_rounds_to(GgmlType type);
/// As ggml rounds. importance: undefined, or (columns) float32 on the weight's device, for types that use it (ggml_blocks.h).
at::Tensor fake_quantize_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& importance = {});
/// Nearest codes beside scales that are there: `scales` the blocks' bytes, of i8 the steps (rows) float32; on the weight's device.
at::Tensor round_kept_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& scales);
/// The same beside scales that are learned, (rows, blocks, 1 or 2) float32 and rounded to fp16 as they are stored; of i8 (rows, 1, 1), as they are.
at::Tensor round_learned_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& scales);
/// LSQ's gradients by weight and scales (quant/kept_scales.h), given that of the rounded values.
std::pair<at::Tensor, at::Tensor> scale_gradients_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& scales,
                                                     const at::Tensor& gradient);

}  // namespace attar
