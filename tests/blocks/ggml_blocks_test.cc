#include "blocks/ggml_blocks.h"

#include <omp.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/rng.h"
#include "blocks/blocks_encode.h"
#include "blocks/ggml_half.h"

namespace attar::blocks_test {
namespace {

std::vector<GgmlType> block_types() {
  std::vector<GgmlType> types;
  for (const GgmlTypeInfo& info : ggml_types())
    if (quantizable(info.type)) types.push_back(info.type);
  return types;
}

/// Values that any machine makes alike: small fractions with now and then a large one.
std::vector<float> plain_values(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  uint32_t state = 12345;
  for (float& value : x) {
    state = state * 1664525u + 1013904223u;
    value = float(int32_t(state >> 12) - (1 << 19)) / float(1 << 19);
    if (state % 97 < 3) value *= 8;
    if (state % 101 < 5) value = 0;
  }
  return x;
}

enum class Kind { normal, tiny, spike, zeros, offset, coarse };

std::vector<float> random_values(Kind kind, int64_t count) {
  Rng rng(11, uint64_t(kind));
  std::vector<float> x(static_cast<size_t>(count));
  for (size_t i = 0; i < x.size(); ++i) {
    const float value = float(rng.normal());
    switch (kind) {
      case Kind::normal: x[i] = value; break;
      case Kind::tiny: x[i] = value * 1e-38f; break;
      case Kind::spike: x[i] = i % 256 == 77 ? -4000 * value : value; break;
      case Kind::zeros: x[i] = i / 16 % 3 == 0 ? 0.0f : i / 32 % 5 == 0 ? -0.0f : value; break;
      case Kind::offset: x[i] = 0.01f * value + (i / 32 % 2 ? 3.0f : -3.0f); break;
      case Kind::coarse: x[i] = std::round(value * 3) / 4; break;
    }
  }
  return x;
}

std::vector<uint8_t> encoded(RunEncoder encoder, GgmlType type, const std::vector<float>& x, int64_t columns, const float* importance) {
  const int64_t rows = int64_t(x.size()) / columns;
  std::vector<uint8_t> bytes(static_cast<size_t>(rows * ggml_row_bytes(type, columns)), 0xaa);
  if (encoder)
    quantize_rows_by(encoder, type, x.data(), bytes.data(), rows, columns, importance);
  else
    quantize_rows(type, x.data(), bytes.data(), rows, columns, importance);
  return bytes;
}

std::string hash_of(const std::vector<uint8_t>& bytes) { return sha256({reinterpret_cast<const char*>(bytes.data()), bytes.size()}); }

std::string message_of(GgmlType type, const std::vector<float>& x, int64_t columns, const float* importance = nullptr) {
  try {
    encoded(nullptr, type, x, columns, importance);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(GgmlHalf, EveryHalfComesBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = fp16_to_fp32(uint16_t(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(fp32_to_fp16(value), bits);
  }
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = bf16_to_fp32(uint16_t(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(fp32_to_bf16(value), bits);
  }
}

TEST(GgmlHalf, RoundsToEvenAndKeepsSubnormals) {
  EXPECT_EQ(fp32_to_fp16(1.0f + 0x1p-11f), 0x3c00);             // a tie, down to even
  EXPECT_EQ(fp32_to_fp16(1.0f + 0x1.8p-10f), 0x3c02);           // a tie, up to even
  EXPECT_EQ(fp32_to_fp16(0x1p-25f), 0x0000);
  EXPECT_EQ(fp32_to_fp16(0x1.000002p-25f), 0x0001);
  EXPECT_EQ(fp32_to_fp16(-0x1.8p-24f), 0x8002);
  EXPECT_EQ(fp32_to_fp16(65519.996f), 0x7bff);
  EXPECT_EQ(fp32_to_fp16(65520.0f), 0x7c00);
  EXPECT_EQ(fp32_to_fp16(-0.0f), 0x8000);
  EXPECT_EQ(fp32_to_bf16(0x1.01p0f), 0x3f80);
  EXPECT_EQ(fp32_to_bf16(0x1.03p0f), 0x3f82);
}

TEST(GgmlBlocks, BlocksByHand) {
  // 127 is the peak: scale 1, so that codes are the values, halves rounded away from zero.
  std::vector<float> x(32, 0.0f);
  x[0] = 127, x[1] = -2.5f, x[2] = 2.5f, x[31] = -127;
  auto bytes = encoded(nullptr, GgmlType::q8_0, x, 32, nullptr);
  EXPECT_EQ(load_u16(bytes.data()), 0x3c00);
  EXPECT_EQ(int8_t(bytes[2]), 127);
  EXPECT_EQ(int8_t(bytes[3]), -3);
  EXPECT_EQ(int8_t(bytes[4]), 3);
  EXPECT_EQ(int8_t(bytes[33]), -127);
  // The peak's sign decides the scale's: 8 becomes code 0 of scale -1, and -7.4 code 15.
  x.assign(32, 0.0f);
  x[0] = 8, x[1] = -7.4f, x[16] = 1, x[17] = -8;
  bytes = encoded(nullptr, GgmlType::q4_0, x, 32, nullptr);
  EXPECT_EQ(load_u16(bytes.data()), 0xbc00);
  EXPECT_EQ(bytes[2], 0x70);
  EXPECT_EQ(bytes[3], 0xff);
  EXPECT_EQ(bytes[4], 0x88);
}

// SHA-256 of what ggml_quantize_chunk of llama.cpp v0.5.0 writes for plain_values(6 * 1280), six rows, without and with
// importance 0.1 + (column % 13) / 4.
const std::map<std::string, std::string> kGgmlsBytes = {
    {"f32", "677f58940d285afa21cc4d08d36d643bd57f66baa749e48b97b0d942e84fc0f1"},
    {"f16", "392757c842e646383a8b12e624af39b9ed8efa6f189b818782e2751457f498ef"},
    {"bf16", "5e8720379b8c394a89c706378a17bcea1e0296fa93a2f42145a74ff5d27910c9"},
    {"q4_0", "9d332d1bfc1033823a115199368250a971fb0b04025da54e037e2c2f3d9a1fb4"},
    {"q4_0 importance", "acc7672debeb9d335e97f685765573af961b88b03a4d43564a879fadaf9202e3"},
    {"q4_1", "ad49c3d80d188cccb9f44a44bb83413b69ab4280eaab34edeff2106c91707a66"},
    {"q4_1 importance", "5874826dd9f3b5afd4932f42386c67763984918f96310892882b27a861dfb094"},
    {"q5_0", "20f7eab7788d7125b8be9f1ad78abc24fab67bc003c70aec0e389a8076ba533f"},
    {"q5_0 importance", "4aba1c7b5834632ccb14b5efcb6509a287e5a4228a88b81c2736436212ddfc86"},
    {"q5_1", "e5a8941e5e51e033b95c37977cf59804bc79bbf6c9ba51fa0600033bfee4a8cf"},
    {"q5_1 importance", "3741eecfe34833398df1eca9672043978866d41f00ab62909fb6f2854c5803bf"},
    {"q8_0", "efc1527f9d3f66c18a1fc709d2160988f1ba6e624399405d86d1781de922f565"},
    {"iq4_nl", "d6ea2d2e1a74fa3dc3860f3d5c64935ed35af4e055b313d97a4c538eabf3abd6"},
    {"iq4_nl importance", "813034f38bfa51616b5049f650f690dedb600cd92d85f49fc775db998b46d1aa"},
    {"mxfp4", "5164ea0914df7d2874500b213f9a82787d5de004e1721f41e3ffcb8aee6ba36b"},
    {"q2_k", "1602f79acba65a0486457ad8d76a652b75b41dba9fccfbb4c7b021afb15a331f"},
    {"q2_k importance", "ec2f1cde7fcc81586d44e87a3d6a5b32f01027f24f15d8fa11d1ed652baeae18"},
    {"q3_k", "e7bedf0c9e9fcedac27e8cdff5f8ee1fc8459a7c2911e66fb936bdacb0f65ebd"},
    {"q3_k importance", "84c7be13f8f2f7ee85868717bc5bcc4404288f0d699f4e6ec28f49a36cfecd27"},
    {"q4_k", "c179547a8f481f16aca97c0e2e76711847c0d9ab12e7988b9bc7a071f37c0885"},
    {"q4_k importance", "c5b5b3afc5f0f0d38d3459d747f9682a3d40b82d84b3a1a8d261e5b87468f52b"},
    {"q5_k", "9bb846c3c24a61733ce990183ae49a406de37c7093b9247c6fa1a69eaf73e061"},
    {"q5_k importance", "6fd7e2edf4d3d0a36639676a938136b008e5e39f169a3a50b5582d69c4bba61c"},
    {"q6_k", "52ef7c4e85e3ea7326f53849ad54e1411b8585c4f191238220251e70a8801b0a"},
    {"q6_k importance", "c52c8f05faf3ade05a3f3e82ba9b46997a8bcb2d1dcc0cbee3d925f40b1ee948"},
    {"tq1_0", "1e9eef766c10dbbde91563c80d067b0fea5d7b253caa422ba852e6d47072c0ca"},
    {"tq2_0", "1e43e70a054ead4927f800f8a6aa96c7f9eef9513198e096db061cc89155666f"},
};

TEST(GgmlBlocks, BytesAreGgmls) {
  const auto x = plain_values(6 * 1280);
  std::vector<float> importance(1280);
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = 0.1f + float(i % 13) / 4;
  for (GgmlType type : block_types()) {
    const std::string name = ggml_type_info(type).name;
    for (RunEncoder encoder : {RunEncoder(encode_run_plain), RunEncoder(nullptr)}) {
      const auto bytes = encoded(encoder, type, x, 1280, nullptr);
      EXPECT_EQ(hash_of(bytes), kGgmlsBytes.at(name)) << name;
      if (!uses_importance(type)) continue;
      const auto weighted = encoded(encoder, type, x, 1280, importance.data());
      EXPECT_EQ(hash_of(weighted), kGgmlsBytes.at(name + " importance")) << name;
    }
  }
}

void encode_by_avx2(const BlockRun& run) {
  if (!encode_run_avx2(run)) encode_run_plain(run);
}

TEST(GgmlBlocks, VectorisedEqualsPlain) {
  for (Kind kind : {Kind::normal, Kind::tiny, Kind::spike, Kind::zeros, Kind::offset, Kind::coarse}) {
    for (int64_t columns : {256, 768, 4352}) {  // runs that fill few lanes, some, more than one piece
      const auto x = random_values(kind, 2 * columns);
      std::vector<float> importance(static_cast<size_t>(columns));
      for (size_t i = 0; i < importance.size(); ++i) importance[i] = i % 50 == 3 ? 0 : std::fabs(x[i]) + 0.01f;
      for (GgmlType type : block_types()) {
        for (const float* weights : {static_cast<const float*>(nullptr), static_cast<const float*>(importance.data())}) {
          const auto plain = encoded(encode_run_plain, type, x, columns, weights);
          EXPECT_TRUE(plain == encoded(nullptr, type, x, columns, weights)) << ggml_type_info(type).name << " kind " << int(kind);
          EXPECT_TRUE(plain == encoded(encode_by_avx2, type, x, columns, weights)) << ggml_type_info(type).name << " kind " << int(kind);
        }
      }
    }
  }
}

TEST(GgmlBlocks, DecodedVectorisedEqualsPlain) {
  Rng rng(3);
  for (GgmlType type : block_types()) {
    const int64_t columns = 5376, rows = 5;
    std::vector<uint8_t> bytes(static_cast<size_t>(rows * ggml_row_bytes(type, columns)));
    for (uint8_t& byte : bytes) byte = uint8_t(rng.next());
    std::vector<float> fast(static_cast<size_t>(rows * columns)), plain(fast.size());
    dequantize_rows(type, bytes.data(), fast.data(), rows, columns);
    dequantize_rows_plain(type, bytes.data(), plain.data(), rows, columns);
    for (size_t i = 0; i < plain.size(); ++i)
      ASSERT_TRUE(fp32_bits(plain[i]) == fp32_bits(fast[i]) || (std::isnan(plain[i]) && std::isnan(fast[i])))
          << ggml_type_info(type).name << " " << i;
  }
}

TEST(GgmlBlocks, ErrorIsTheTypes) {
  // Root mean square errors on N(0, 1) as formats section 2 measured them for ggml's reference.
  const std::map<std::string, double> known = {{"q8_0", .0053}, {"q4_0", .0848}, {"q4_1", .0773}, {"q5_0", .0422}, {"q5_1", .0372}, {"iq4_nl", .0752},
                                               {"mxfp4", .1136}, {"q2_k", .292}, {"q3_k", .150}, {"q4_k", .0706}, {"q5_k", .0355}, {"q6_k", .0175}};
  const int64_t columns = 8192;
  const auto x = random_values(Kind::normal, 16 * columns);
  for (const auto& [name, expected] : known) {
    const GgmlType type = ggml_type_named(name);
    const auto bytes = encoded(nullptr, type, x, columns, nullptr);
    std::vector<float> back(x.size());
    dequantize_rows(type, bytes.data(), back.data(), 16, columns);
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += (back[i] - x[i]) * double(back[i] - x[i]);
    EXPECT_NEAR(std::sqrt(sum / double(x.size())) / expected, 1, 0.02) << name;
  }
}

TEST(GgmlBlocks, DecodedValuesEncodeToThemselves) {
  for (const char* name : {"f32", "f16", "bf16", "q8_0", "q4_0", "q5_0", "tq1_0", "tq2_0", "mxfp4"}) {
    const GgmlType type = ggml_type_named(name);
    const auto x = random_values(Kind::normal, 8 * 1024);
    std::vector<float> once(x.size()), twice(x.size());
    dequantize_rows(type, encoded(nullptr, type, x, 1024, nullptr).data(), once.data(), 8, 1024);
    dequantize_rows(type, encoded(nullptr, type, once, 1024, nullptr).data(), twice.data(), 8, 1024);
    EXPECT_TRUE(once == twice) << name;
  }
}

TEST(GgmlBlocks, ThreadsDoNotChangeBytes) {
  const int before = omp_get_max_threads();
  const auto x = random_values(Kind::normal, 5 * 8192);
  std::vector<float> importance(8192, 0.5f);
  for (GgmlType type : block_types()) {
    omp_set_num_threads(1);
    const auto one = encoded(nullptr, type, x, 8192, importance.data());
    omp_set_num_threads(3);
    EXPECT_TRUE(one == encoded(nullptr, type, x, 8192, importance.data())) << ggml_type_info(type).name;
  }
  omp_set_num_threads(before);
}

TEST(GgmlBlocks, NotFiniteIsNamed) {
  for (GgmlType type : block_types()) {
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
      std::vector<float> x(3 * 512, 1.0f);
      x[2 * 512 + 301] = bad;
      x[2 * 512 + 302] = bad;
      EXPECT_NE(message_of(type, x, 512).find("row 2, column 301"), std::string::npos) << ggml_type_info(type).name;
    }
  }
}

TEST(GgmlBlocks, OverflowIsNamed) {
  for (GgmlType type : block_types()) {
    const std::string name = ggml_type_info(type).name;
    std::vector<float> x(3 * 512, 1.0f);
    x[512 + 40] = -3e38f;
    x[512 + 41] = 3e38f;
    if (name == "f32" || name == "mxfp4" || name == "bf16")
      EXPECT_EQ(message_of(type, x, 512), "") << name;
    else
      EXPECT_NE(message_of(type, x, 512).find("row 1, column 4"), std::string::npos) << name << message_of(type, x, 512);
  }
  std::vector<float> x(64, 0.0f);
  x[33] = 8 * 65504.0f;
  EXPECT_EQ(message_of(GgmlType::q4_0, x, 64), "");
  x[33] = 8 * 65520.0f;
  EXPECT_NE(message_of(GgmlType::q4_0, x, 64).find("row 0, column 33"), std::string::npos);
  x[33] = 65519.0f;
  EXPECT_EQ(message_of(GgmlType::f16, x, 64), "");
  x[33] = 65520.0f;
  EXPECT_NE(message_of(GgmlType::f16, x, 64).find("column 33"), std::string::npos);
}

TEST(GgmlBlocks, WrongShapesTypesAndImportancesAreRefused) {
  const std::vector<float> x(300, 1.0f);
  EXPECT_NE(message_of(GgmlType::q4_k, x, 300), "");
  EXPECT_THROW(quantize_rows(GgmlType::i8, x.data(), nullptr, 1, 300), Error);
  EXPECT_THROW(dequantize_rows(GgmlType::f64, nullptr, nullptr, 1, 1), Error);
  EXPECT_THROW(quantize_rows(GgmlType(9), x.data(), nullptr, 1, 32), Error);
  std::vector<float> importance(256, 1.0f);
  importance[200] = -1;
  EXPECT_NE(message_of(GgmlType::q4_k, std::vector<float>(256, 1.0f), 256, importance.data()).find("column 200"), std::string::npos);
  importance[200] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(message_of(GgmlType::q4_k, std::vector<float>(256, 1.0f), 256, importance.data()).find("column 200"), std::string::npos);
  EXPECT_NO_THROW(quantize_rows(GgmlType::q4_k, nullptr, nullptr, 0, 256));
}

}  // namespace
}  // namespace attar::blocks_test
