#pragma once
#include "stored/stored_model.h"

namespace attar {

/// Error, before anything is written, for a model that onnxruntime-genai cannot run: layers that differ in heads (it has one number for all
/// caches), or no id that ends a text.
void check_genai(const ModelSpec& spec);

/// genai_config.json beside model.onnx, as onnxruntime-genai reads it: shapes, names of inputs and outputs, token ids, greedy search.
/// Notes what that runtime could not use.
void write_genai_config(const StoredModel& model, const fs::path& folder, std::vector<std::string>& notes);

}  // namespace attar
