#pragma once
#include "base/json.h"
#include "spec/configs.h"
#include "stored/stored_model.h"

namespace attar {

/// What an export wrote and proved.
struct ExportReport {
  std::vector<fs::path> files;
  std::vector<std::string> notes;   ///< deviations and fallbacks, for the user
  Json tensors = Json::array();     ///< per tensor: name, type, shape, bytes
  int64_t elements_proven = 0;      ///< read back from the file, dequantized and found equal to the model
};

/// One GGUF v3 file. Codes of the model are written as they are when config.type is empty (other weights: F32); else types by config.type.
/// After writing, the file is read back: every element must equal the dequantized codes or the rounding of the model's weight, or Error and no file.
ExportReport export_gguf(const StoredModel& model, const ExportConfig& config, const fs::path& file);

/// A folder with model.onnx [+ model.onnx.data], config.json and tokenizer files: opset 21, KV cache inputs and outputs (formats.md's common
/// interface). int4: MatMulNBits, block 32, no accuracy_level; q4_0 codes map one to one. Proven by reading back.
ExportReport export_onnx(const StoredModel& model, const ExportConfig& config, const fs::path& folder);

/// Hugging Face folder.
ExportReport export_hf(const StoredModel& model, const ExportConfig& config, const fs::path& folder);

/// Element for element: does the file or folder at `path` hold exactly this model's values (after the file's own rounding of them)?
/// Faults name tensor, index and both values; empty: equal.
std::vector<Fault> compare_with_model(const fs::path& path, const StoredModel& model);

}  // namespace attar
