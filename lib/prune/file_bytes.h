#pragma once
#include <map>
#include <string>

#include "base/files.h"
#include "formats/ggml_types.h"
#include "spec/model_spec.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// Bytes of a GGUF file's tensors and their table when an export writes the model as `type` (llama-quantize's mix and fallbacks by width).
int64_t gguf_tensor_bytes(const ModelSpec& spec, const std::string& type);

/// The same when these weights have these types and the others are F32.
int64_t gguf_tensor_bytes(const ModelSpec& spec, const std::map<std::string, GgmlType>& types);
/// What `bytes` of a tensor take up in such a file.
int64_t gguf_aligned(int64_t bytes);

/// Bytes of the metadata that such a file of a model with this tokenizer begins with, a little more rather than less. `scratch`: a file that may be
/// written; it is removed. Null tokenizer: none in the file.
int64_t gguf_metadata_bytes(const ModelSpec& spec, const Tokenizer* tokenizer, const fs::path& scratch);

}  // namespace attar
