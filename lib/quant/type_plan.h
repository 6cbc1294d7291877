#pragma once
#include <map>
#include <string>
#include <vector>

#include "formats/ggml_types.h"
#include "spec/model_spec.h"

namespace attar {

/// Which grid each weight is put on, by Hugging Face's name, and what to tell the user ("3 tensors (...): row of 172 is no multiple of 256: q5_0").
struct TypePlan {
  std::map<std::string, GgmlType> types;
  std::vector<std::string> notes;
};

/// `scheme`: a type (that type throughout, unless `mix`), one of llama-quantize's mixes (q4_k_m), int4 (ONNX's blocks of 32: q4_0's codes) or int8
/// (ONNX's rows: type i8, row_int8.h). Parts of a fused tensor get one type; rows that no block divides get llama-quantize's fallback, f16 at last.
/// Error if the scheme is unknown or no row fits it.
TypePlan plan_types(const ModelSpec& spec, const std::string& scheme, bool mix, bool embeddings, bool has_imatrix);

/// The same for one type throughout, for a search over types.
GgmlType type_for_width(GgmlType wanted, int64_t columns);

/// Weights that always have one type together: parts of a fused tensor. By GGUF name, embeddings and output left out unless wanted.
struct TypeGroup {
  std::string gguf;
  std::vector<std::string> weights;
  int64_t rows = 0, columns = 0;
};
std::vector<TypeGroup> type_groups(const ModelSpec& spec, bool embeddings);

/// Bytes of a GGUF file's tensors when these weights have these types and the others are F32, computed ones (rope factors) included; of i8, which
/// only ONNX has, with its rows' scales.
int64_t tensor_bytes(const ModelSpec& spec, const std::map<std::string, GgmlType>& types);

}  // namespace attar
