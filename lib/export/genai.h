#pragma once
#include "model/checkpoint.h"

namespace attar {

/// genai_config.json beside model.onnx, as onnxruntime-genai reads it: shapes, names of inputs and outputs, token ids, greedy search.
/// Notes what that runtime could not use. Error for a model whose layers differ in kv heads, which it cannot hold a cache for.
void write_genai_config(const Checkpoint& model, const fs::path& folder, std::vector<std::string>& notes);

}  // namespace attar
