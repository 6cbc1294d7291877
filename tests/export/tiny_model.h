#pragma once
#include <ATen/ATen.h>

#include "base/rng.h"
#include "blocks/ggml_blocks.h"
#include "export/export.h"
#include "export/prove.h"
#include "export/tensor_errors.h"
#include "model/checkpoint.h"
#include "model/decoder.h"

namespace attar {

/// A llama of two layers with every parameter drawn anew; d is not D/H.
inline ModelSpec tiny_spec(const std::string& family = "llama") {
  ModelSpec spec;
  spec.family = family;
  spec.vocab = 48;
  spec.hidden = 64;
  spec.head_size = 32;
  spec.context = 64;
  spec.layers.assign(2, LayerSpec{96, 4, 2, 0, false});
  spec.bos = 1;
  spec.eos = {2};
  if (family == "qwen3") spec.qk_norm = true;
  if (family == "phi3") spec.fused_projections = true;
  if (family == "gemma") {
    spec.norm_offset = spec.tied = true;
    spec.activation = "gelu_tanh";
    spec.embedding_scale = 8;
  }
  return spec;
}

inline Checkpoint tiny_model(ModelSpec spec = tiny_spec()) {
  Checkpoint model;
  model.spec = spec;
  for (const ParameterInfo& parameter : parameters_of(spec)) {
    at::Tensor tensor = at::empty(parameter.shape, at::kFloat);
    Rng rng(7, stream_of(parameter.name), 0);
    for (int64_t i = 0; i < tensor.numel(); ++i)
      tensor.data_ptr<float>()[i] = static_cast<float>(rng.normal() * 0.2 + (parameter.shape.size() == 1 ? 0.9 : 0));
    model.weights[parameter.name] = tensor;
  }
  model.license = "apache-2.0";
  model.base_model = "someone/tiny";
  return model;
}

/// The model with its linears (and embedding) on the grid of `type`, codes kept.
inline Checkpoint quantized_model(GgmlType type, ModelSpec spec = tiny_spec()) {
  Checkpoint model = tiny_model(spec);
  for (auto& [name, weight] : model.weights) {
    if (weight.dim() != 2) continue;
    at::Tensor blocks = at::empty({weight.size(0), ggml_row_bytes(type, weight.size(1))}, at::kByte);
    quantize_rows(type, weight.const_data_ptr<float>(), blocks.data_ptr<uint8_t>(), weight.size(0), weight.size(1));
    dequantize_rows(type, blocks.const_data_ptr<uint8_t>(), weight.data_ptr<float>(), weight.size(0), weight.size(1));
    model.codes[name] = {type, weight.sizes().vec(), blocks};
  }
  return model;
}

// Models of tensors, written as models at rest are.
inline ExportReport export_gguf(const Checkpoint& model, const ExportConfig& config, const fs::path& file) {
  return export_gguf(stored_view(model), config, file);
}
inline ExportReport export_onnx(const Checkpoint& model, const ExportConfig& config, const fs::path& folder) {
  return export_onnx(stored_view(model), config, folder);
}
inline ExportReport export_hf(const Checkpoint& model, const ExportConfig& config, const fs::path& folder) {
  return export_hf(stored_view(model), config, folder);
}
inline std::vector<Fault> compare_with_model(const fs::path& path, const Checkpoint& model) { return compare_with_model(path, stored_view(model)); }
inline void add_tensor_errors(const fs::path& gguf, const Checkpoint& model, Json& tensors) { add_tensor_errors(gguf, stored_view(model), tensors); }
inline void add_onnx_errors(const fs::path& file, const Checkpoint& model, Json& tensors) { add_onnx_errors(file, stored_view(model), tensors); }

}  // namespace attar
