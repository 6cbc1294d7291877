#pragma once
#include <map>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace attar {

/// How one weight becomes codes: byte for byte as ggml rounds, or with scales of least squared error (kernels/scale_search.h).
enum class Rounding { ggml, search };

/// Mean squares of the inputs of each weight's columns, by the weight's name; weights that are not in it have no importance.
using ImportanceMap = std::map<std::string, std::vector<float>>;

/// Codes of one weight (rows, columns), any device and float type, and back; type i8 is ONNX's (row_int8.h). importance: null, or (columns) numbers.
QuantizedTensor quantize_tensor(const at::Tensor& weight, GgmlType type, const std::vector<float>* importance = nullptr,
                                Rounding rounding = Rounding::ggml);
at::Tensor dequantize_tensor(const QuantizedTensor& tensor);

/// Rounds one weight of the model: `codes` receives the blocks, `weights` exactly their dequantized values. Errors name the weight.
void quantize_weight(Checkpoint& model, const std::string& name, GgmlType type, const ImportanceMap& importance, Rounding rounding);
/// All of `types`.
void quantize_checkpoint(Checkpoint& model, const std::map<std::string, GgmlType>& types, const ImportanceMap& importance = {},
                         Rounding rounding = Rounding::ggml);

/// Weight hook for training through the grids: forward is the file's dequantized value as ggml rounds (with importance where there is some),
/// backward is straight through (Bengio et al. 2013). Weights of a GPU are rounded there to the same values; there infinity and NaN, and scales that
/// fp16 cannot hold, are found when the codes are written.
Decoder::WeightHook fake_quantization(const std::map<std::string, GgmlType>& types, const ImportanceMap& importance = {});

}  // namespace attar
