#include "formats/ggml_types.h"

#include "damage.h"

namespace attar {
namespace {

TEST(GgmlTypes, KnowsItsBlocks) {
  EXPECT_EQ(ggml_types().size(), 22u);
  EXPECT_EQ(ggml_type_info(GgmlType::q4_0).bytes, 18);
  EXPECT_EQ(ggml_type_info(GgmlType::q6_k).bytes, 210);
  for (const auto& info : ggml_types()) {
    EXPECT_EQ(ggml_type_named(info.name), info.type);
    EXPECT_EQ(find_ggml_type(static_cast<int32_t>(info.type)), &info);
    EXPECT_EQ(ggml_row_bytes(info.type, 512), 512 / info.block * info.bytes);
    EXPECT_EQ(info.quantized, info.block > 1);
  }
}

TEST(GgmlTypes, RefusesByName) {
  EXPECT_EQ(find_ggml_type(17), nullptr);
  EXPECT_EQ(find_ggml_type(-1), nullptr);
  EXPECT_EQ(ggml_type_label(17), "17 (iq2_xs)");
  EXPECT_EQ(ggml_type_label(1000), "1000 (unknown)");
  EXPECT_ERROR(ggml_type_info(static_cast<GgmlType>(4)), "retired");
  EXPECT_ERROR(ggml_type_named("q4_O"), "q4_0");
  EXPECT_ERROR(ggml_row_bytes(GgmlType::q4_0, 172), "32");
  EXPECT_ERROR(ggml_row_bytes(GgmlType::f32, -4), "-4");
  EXPECT_ERROR(ggml_row_bytes(GgmlType::f64, INT64_MAX), "2^63");
}

}  // namespace
}  // namespace attar
