#pragma once
#include <string>
#include <vector>

#include "formats/ggml_types.h"
#include "spec/model_spec.h"

namespace attar {

/// The type of each tensor of a GGUF file under one of llama-quantize's names ("q4_k_m"; bare K names mean their _m), and why.
struct TensorType {
  std::string gguf;   ///< name in the file
  GgmlType type;
  std::string note;   ///< "row of 172 is no multiple of 256: q5_0", or ""
};
struct PresetChoice {
  std::vector<TensorType> tensors;
  uint32_t file_type;   ///< general.file_type
};
/// `shapes`: name and (rows, columns) of every tensor in file order. pure: one type throughout (fallbacks by width stay).
/// overrides: (regex on the GGUF name, type) pairs, first match wins. has_imatrix matters where llama-quantize looks at it.
struct PresetInput { std::string gguf; int64_t rows, columns; bool matrix; };
PresetChoice preset_types(const std::string& preset, const ModelSpec& spec, const std::vector<PresetInput>& tensors, bool pure,
                          const std::vector<std::pair<std::string, GgmlType>>& overrides, bool has_imatrix);
/// Every name `--type` takes for GGUF.
const std::vector<std::string>& gguf_type_names();
uint32_t gguf_file_type(GgmlType type);

}  // namespace attar
