#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace attar {

/// Tensor types of GGUF files, with ggml's numbers (ggml.h, enum ggml_type).
enum class GgmlType : int32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8, q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14,
  iq4_nl = 20, i8 = 24, i16 = 25, i32 = 26, i64 = 27, f64 = 28, bf16 = 30, tq1_0 = 34, tq2_0 = 35, mxfp4 = 39,
};

struct GgmlTypeInfo {
  GgmlType type;
  const char* name;      ///< "q4_0": lower case, as in recipes
  int64_t block;         ///< weights in a block (1 for plain numbers)
  int64_t bytes;         ///< bytes of a block
  bool quantized;        ///< needs dequantizing
};

/// Error naming the number if the type is unknown or retired.
const GgmlTypeInfo& ggml_type_info(GgmlType type);
const GgmlTypeInfo* find_ggml_type(int32_t number);              ///< null if unknown
std::string ggml_type_label(int32_t number);                      ///< "17 (iq2_xs)", "99 (unknown)": for sentences
GgmlType ggml_type_named(const std::string& name);               ///< "q4_0"; Error with the nearest known name
const std::vector<GgmlTypeInfo>& ggml_types();
/// Bytes of one row of `columns` weights; Error if no whole number of blocks makes it.
int64_t ggml_row_bytes(GgmlType type, int64_t columns);

}  // namespace attar
