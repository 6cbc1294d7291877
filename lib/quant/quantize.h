#pragma once
#include <vector>

#include "model/decoder.h"
#include "spec/configs.h"

namespace attar {

/// Names of the weights that `config` puts on the grid (linears; embedding and output too with `embeddings`), rows that no block divides left out.
std::vector<std::string> quantized_names(const ModelSpec& spec, GgmlType type, bool embeddings);

/// Rounds these weights once: `codes` receives the blocks, `weights` exactly their dequantized values.
void quantize_checkpoint(Checkpoint& model, GgmlType type, const std::vector<std::string>& names);

/// Blocks of one weight (rows, columns) float32, CPU, and back.
QuantizedTensor quantize_tensor(const at::Tensor& weight, GgmlType type, const at::Tensor& importance = {});
at::Tensor dequantize_tensor(const QuantizedTensor& tensor);

/// Weight hook for training through the grid: forward is the file's dequantized value, backward is straight through (Bengio et al. 2013).
Decoder::WeightHook fake_quantization(GgmlType type, const std::vector<std::string>& names);

}  // namespace attar
