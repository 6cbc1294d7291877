#pragma once
#include <memory>
#include <span>

#include "formats/safetensors.h"
#include "model/checkpoint.h"

namespace attar {

/// LibTorch's type of a safetensors element; Error naming tensor and type if it is no weight (integers, booleans).
at::ScalarType weight_type(Dtype dtype, const std::string& name);
/// The safetensors element of a LibTorch type that attar writes.
Dtype stored_type(at::ScalarType type);

/// Room for a tensor of the CPU that is about to be filled, in large pages where the system gives them: fewer faults while it is filled, and fewer
/// looked-up addresses whenever it is read.
at::Tensor room_for(const std::vector<int64_t>& shape, at::ScalarType type);

/// Bytes of a file as a tensor under `options`. With keep_dtype on the CPU nothing is copied: the tensor lies in the mapping, which `owner`
/// keeps, and must not be written to; else it has memory of its own.
at::Tensor mapped_tensor(std::span<const uint8_t> bytes, at::ScalarType stored, const std::vector<int64_t>& shape, const LoadOptions& options,
                         std::shared_ptr<const void> owner);

/// Weights of a Hugging Face folder under parameters_of(spec)'s names: prefixes of wrapped models taken off, fused projections split.
StateDict hf_weights(const fs::path& folder, const ModelSpec& spec, const LoadOptions& options);
/// codes.safetensors of an artifact, checked against the weights' names and shapes; empty if there is none.
std::map<std::string, QuantizedTensor> hf_codes(const fs::path& folder, const ModelSpec& spec);

/// A GGUF file as a checkpoint without tokenizer: dequantized, permutation of heads undone, Gemma's norms as stored by Hugging Face.
/// Codes are kept for quantized matrices when weights are loaded as float32 (or as stored).
Checkpoint gguf_checkpoint(const fs::path& file, const LoadOptions& options);

/// An ONNX file of attar's as a checkpoint without tokenizer, and its spec alone.
Checkpoint onnx_checkpoint(const fs::path& model, const LoadOptions& options);
ModelSpec onnx_spec(const fs::path& model);

}  // namespace attar
