#pragma once
#include "stored/stored_model.h"

namespace attar {

/// Weights of a Hugging Face folder under parameters_of(spec)'s names: prefixes of wrapped models taken off, fused projections split.
std::map<std::string, StoredTensor> hf_weights(const fs::path& folder, const ModelSpec& spec);
/// codes.safetensors of an artifact, checked against the weights' names and shapes; empty if there is none.
std::map<std::string, StoredTensor> hf_codes(const fs::path& folder, const ModelSpec& spec);

/// A GGUF file without its tokenizer: every quantized matrix has its codes.
StoredModel stored_gguf(const fs::path& file);

/// An ONNX file of attar's without tokenizer, and its spec alone. Integers come as the ggml blocks they are, or as i8.
StoredModel stored_onnx(const fs::path& model);
ModelSpec onnx_spec(const fs::path& model);

}  // namespace attar
