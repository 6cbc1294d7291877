#include "formats/ggml_types.h"

#include "base/check.h"

namespace attar {
namespace {

// Numbers that ggml gives meaning to, but whose blocks attar does not decode; named so that an error can say what the file holds.
struct OtherGgmlType {
  int32_t number;
  const char* name;
};
constexpr OtherGgmlType kOtherGgmlTypes[] = {
    {4, "q4_2, retired"},     {5, "q4_3, retired"},     {9, "q8_1"},  {15, "q8_k"},  {16, "iq2_xxs"}, {17, "iq2_xs"},
    {18, "iq3_xxs"},          {19, "iq1_s"},            {21, "iq3_s"}, {22, "iq2_s"}, {23, "iq4_xs"},  {29, "iq1_m"},
    {31, "q4_0_4_4, retired"}, {32, "q4_0_4_8, retired"}, {33, "q4_0_8_8, retired"}, {36, "iq4_nl_4_4, retired"},
    {37, "iq4_nl_4_8, retired"}, {38, "iq4_nl_8_8, retired"}, {40, "nvfp4"}, {41, "q1_0"}, {42, "q2_0"},
};

}  // namespace

const std::vector<GgmlTypeInfo>& ggml_types() {
  static const std::vector<GgmlTypeInfo> types = {
      {GgmlType::f32, "f32", 1, 4, false},       {GgmlType::f16, "f16", 1, 2, false},       {GgmlType::q4_0, "q4_0", 32, 18, true},
      {GgmlType::q4_1, "q4_1", 32, 20, true},    {GgmlType::q5_0, "q5_0", 32, 22, true},    {GgmlType::q5_1, "q5_1", 32, 24, true},
      {GgmlType::q8_0, "q8_0", 32, 34, true},    {GgmlType::q2_k, "q2_k", 256, 84, true},   {GgmlType::q3_k, "q3_k", 256, 110, true},
      {GgmlType::q4_k, "q4_k", 256, 144, true},  {GgmlType::q5_k, "q5_k", 256, 176, true},  {GgmlType::q6_k, "q6_k", 256, 210, true},
      {GgmlType::iq4_nl, "iq4_nl", 32, 18, true}, {GgmlType::i8, "i8", 1, 1, false},        {GgmlType::i16, "i16", 1, 2, false},
      {GgmlType::i32, "i32", 1, 4, false},       {GgmlType::i64, "i64", 1, 8, false},       {GgmlType::f64, "f64", 1, 8, false},
      {GgmlType::bf16, "bf16", 1, 2, false},     {GgmlType::tq1_0, "tq1_0", 256, 54, true}, {GgmlType::tq2_0, "tq2_0", 256, 66, true},
      {GgmlType::mxfp4, "mxfp4", 32, 17, true},
  };
  return types;
}

const GgmlTypeInfo* find_ggml_type(int32_t number) {
  for (const auto& info : ggml_types())
    if (static_cast<int32_t>(info.type) == number) return &info;
  return nullptr;
}

std::string ggml_type_label(int32_t number) {
  if (const auto* info = find_ggml_type(number)) return str(number, " (", info->name, ")");
  for (const auto& other : kOtherGgmlTypes)
    if (other.number == number) return str(number, " (", other.name, ")");
  return str(number, " (unknown)");
}

const GgmlTypeInfo& ggml_type_info(GgmlType type) {
  const auto* info = find_ggml_type(static_cast<int32_t>(type));
  if (!info) fail("ggml type", "one that attar decodes", ggml_type_label(static_cast<int32_t>(type)));
  return *info;
}

GgmlType ggml_type_named(const std::string& name) {
  std::vector<std::string> known;
  for (const auto& info : ggml_types()) {
    if (name == info.name) return info.type;
    known.emplace_back(info.name);
  }
  fail("ggml type", "a known type", "'" + name + "'", nearest_hint(name, known));
}

int64_t ggml_row_bytes(GgmlType type, int64_t columns) {
  const auto& info = ggml_type_info(type);
  if (columns < 0 || columns % info.block != 0)
    fail(str("row of ", columns, " weights in ", info.name), str("a multiple of ", info.block), std::to_string(columns));
  int64_t bytes = 0;
  if (__builtin_mul_overflow(columns / info.block, info.bytes, &bytes)) fail(str("row of ", columns, " weights"), "a size below 2^63 bytes", "more");
  return bytes;
}

}  // namespace attar
