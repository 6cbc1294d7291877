// Files exchanged with other software: tests/parity/test_formats.py runs these tests with ATTAR_INTERCHANGE set to a folder where others'
// files already lie (theirs.*), and then reads ours (ours.*) with the others. Without it ours alone are written and read.
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "base/hash.h"
#include "damage.h"
#include "data_path.h"
#include "formats/gguf.h"
#include "formats/npy.h"
#include "formats/safetensors.h"
#include "formats/shard.h"
#include "formats/text_lines.h"

namespace attar {
namespace {

// 0, 0.5, 1, ...: exact in every float type used here.
std::vector<float> exchanged_values(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = 0.5f * static_cast<float>(i);
  return values;
}

void expect_exchanged(std::span<const uint8_t> bytes, size_t count) {
  const auto values = exchanged_values(count);
  ASSERT_EQ(bytes.size(), count * sizeof(float));
  EXPECT_EQ(std::memcmp(bytes.data(), values.data(), bytes.size()), 0);
}

class Interchange : public ::testing::Test {
 protected:
  Interchange() {
    const char* given = std::getenv("ATTAR_INTERCHANGE");
    folder_ = given && *given ? fs::path(given) : own_.path();
    others_ = given && *given;
  }
  TestFolder own_;
  fs::path folder_;
  bool others_ = false;
};

TEST_F(Interchange, Gguf) {
  const auto read = [&](const fs::path& path) {
    const GgufFile file(path);
    EXPECT_EQ(file.metadata().text("general.architecture"), "llama");
    EXPECT_EQ(file.metadata().integer("llama.block_count"), 2);
    EXPECT_FALSE(file.metadata().boolean("tokenizer.ggml.add_bos_token", true));
    EXPECT_EQ(std::get<std::vector<std::string>>(*file.metadata().find("tokenizer.ggml.tokens")), (std::vector<std::string>{"<unk>", "é"}));
    EXPECT_EQ(std::get<std::vector<float>>(*file.metadata().find("tokenizer.ggml.scores")), (std::vector<float>{0, -1.5f}));
    const auto* wide = file.find("wide");
    ASSERT_NE(wide, nullptr);
    EXPECT_EQ(wide->shape, (std::vector<int64_t>{3, 5}));
    expect_exchanged(file.bytes(*wide), 15);
    const auto* blocks = file.find("blocks");
    ASSERT_NE(blocks, nullptr);
    EXPECT_EQ(blocks->type, GgmlType::q8_0);
    EXPECT_EQ(blocks->shape, (std::vector<int64_t>{2, 64}));
    for (uint8_t byte : file.bytes(*blocks)) EXPECT_EQ(byte, 1);
  };
  GgufMetadata metadata;
  metadata.set("general.architecture", "llama");
  metadata.set("llama.block_count", uint32_t{2});
  metadata.set("llama.rope.freq_base", 10000.0f);
  metadata.set("tokenizer.ggml.add_bos_token", false);
  metadata.set("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "é"});
  metadata.set("tokenizer.ggml.scores", std::vector<float>{0, -1.5f});
  metadata.set("tokenizer.ggml.token_type", std::vector<int32_t>{2, 1});
  metadata.set("list.bool", std::vector<bool>{true, false});
  const auto values = exchanged_values(15);
  const std::string blocks(2 * 2 * 34, '\1');
  GgufWriter writer(folder_ / "ours.gguf", metadata,
                    {{"wide", GgmlType::f32, {3, 5}}, {"blocks", GgmlType::q8_0, {2, 64}}, {"last", GgmlType::f32, {1}}});
  writer.write(values.data(), 60);
  writer.write(blocks.data(), blocks.size());
  writer.write(values.data() + 1, 4);
  writer.commit();
  read(folder_ / "ours.gguf");
  if (others_) read(folder_ / "theirs.gguf");
}

TEST_F(Interchange, Safetensors) {
  const auto read = [&](const fs::path& path) {
    const SafetensorsFile file(path);
    EXPECT_EQ(file.tensors().size(), 4u);
    EXPECT_EQ(file.metadata().at("format"), "pt");
    EXPECT_EQ(file.tensors().at("w").shape, (std::vector<int64_t>{2, 3}));
    expect_exchanged(file.bytes("w"), 6);
    expect_exchanged(file.bytes("scalar"), 1);
    EXPECT_EQ(file.tensors().at("none").shape, (std::vector<int64_t>{0, 2}));
    EXPECT_EQ(file.tensors().at("codes").dtype, Dtype::u8);
    EXPECT_EQ(file.bytes("codes")[2], 9);
  };
  const auto values = exchanged_values(6);
  SafetensorsWriter writer(folder_ / "ours.safetensors",
                           {{"w", Dtype::f32, {2, 3}}, {"codes", Dtype::u8, {3}}, {"none", Dtype::f16, {0, 2}}, {"scalar", Dtype::f32, {}}});
  writer.write(values.data(), 24);
  writer.write("\7\10\11", 3);
  writer.write(values.data(), 4);
  writer.commit();
  read(folder_ / "ours.safetensors");
  if (others_) read(folder_ / "theirs.safetensors");
}

TEST_F(Interchange, Npy) {
  const auto read = [&](const fs::path& path) {
    const auto array = read_npy(path);
    EXPECT_EQ(array.dtype, "<f4");
    EXPECT_EQ(array.shape, (std::vector<int64_t>{4, 3}));
    expect_exchanged(array.bytes, 12);
  };
  NpyWriter writer(folder_ / "ours.npy", 4, 3);
  writer.write(exchanged_values(12).data(), 12);
  writer.commit();
  read(folder_ / "ours.npy");
  if (others_) read(folder_ / "theirs.npy");
}

TEST_F(Interchange, Shard) {
  std::map<std::string, ShardArray> arrays;
  const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x7bff, 0x0001};  // 1, -2, 65504, 2^-24
  const auto put = [&](const std::string& name, const std::string& dtype, std::vector<int64_t> shape, const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    arrays[name] = {dtype, std::move(shape), {bytes, bytes + size}};
  };
  put("halves", "f16", {2, 2}, halves.data(), 8);
  const auto floats = exchanged_values(6);
  put("floats", "f32", {2, 3}, floats.data(), 24);
  const int64_t offsets[2] = {-1, INT64_MAX};
  put("offsets", "i64", {2}, offsets, 16);
  const uint16_t ids[2] = {1, 65535};
  put("ids", "u16", {2}, ids, 4);
  put("none", "i32", {0, 3}, ids, 0);
  std::vector<uint16_t> many(30000);
  std::iota(many.begin(), many.end(), uint16_t{0});
  put("deflated", "u16", {15000, 2}, many.data(), 60000);
  arrays["deflated"].deflated = true;
  write_shard(folder_ / "ours.h5", arrays, {{"kind", "attar shard"}});
  EXPECT_EQ(read_shard(folder_ / "ours.h5", sha256_file_now(folder_ / "ours.h5")).size(), 6u);
  if (others_) {
    const auto theirs = read_shard(folder_ / "theirs.h5", sha256_file_now(folder_ / "theirs.h5"));
    EXPECT_EQ(theirs.at("halves").dtype, "f16");
    EXPECT_EQ(theirs.at("halves").bytes, arrays.at("halves").bytes);
    EXPECT_EQ(theirs.at("ids").bytes, arrays.at("ids").bytes);
    EXPECT_EQ(theirs.at("deflated").bytes, arrays.at("deflated").bytes);
    // Other filters than ours are what a reader of strangers' files would have to unpack: refused.
    EXPECT_ERROR(read_shard(folder_ / "chunked.h5", sha256_file_now(folder_ / "chunked.h5")), "another layout");
    EXPECT_ERROR(read_shard(folder_ / "linked.h5", sha256_file_now(folder_ / "linked.h5")), "link");
  }
}

TEST_F(Interchange, Csv) {
  if (!others_) put_bytes(folder_ / "theirs.csv", "text,label\r\n\"a \"\"quoted\"\", text\nof two lines\",é\r\n, x \r\n");  // as Python writes it
  CsvReader reader(folder_ / "theirs.csv");
  std::vector<std::string> row;
  ASSERT_TRUE(reader.next(row));
  EXPECT_EQ(row, (std::vector<std::string>{"a \"quoted\", text\nof two lines", "é"}));
  ASSERT_TRUE(reader.next(row));
  EXPECT_EQ(row, (std::vector<std::string>{"", " x "}));
  EXPECT_FALSE(reader.next(row));
}

}  // namespace
}  // namespace attar
