#include "stored/stored_model.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/rng.h"
#include "blocks/ggml_blocks.h"
#include "data_path.h"
#include "formats/gguf.h"
#include "spec/gguf_names.h"

namespace attar {
namespace {

/// A tensor whose bytes begin at an odd address.
StoredTensor stored_at_odd_address(GgmlType type, std::vector<int64_t> shape, const void* data, size_t size) {
  const auto kept = std::make_shared<std::vector<uint8_t>>(size + 1);
  if (size) std::memcpy(kept->data() + 1, data, size);
  StoredTensor tensor;
  tensor.type = type;
  tensor.shape = std::move(shape);
  tensor.bytes = std::span<const uint8_t>(*kept).subspan(1);
  tensor.owner = kept;
  return tensor;
}

std::vector<float> numbers_of(const StoredTensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.rows() * tensor.columns()));
  tensor.values(0, tensor.rows(), out.data());
  return out;
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.faults().front().line();
  }
  return "";
}

/// A llama of one layer whose every parameter is drawn.
StoredModel drawn_model(bool tied = false) {
  StoredModel model;
  ModelSpec& spec = model.spec;
  spec.family = "llama";
  spec.vocab = 40, spec.hidden = 32, spec.head_size = 16, spec.context = 64, spec.tied = tied;
  spec.layers.assign(1, LayerSpec{64, 2, 2, 0, false});
  spec.bos = 1, spec.eos = {2};
  for (const ParameterInfo& parameter : parameters_of(spec)) {
    Rng rng(3, stream_of(parameter.name), 0);
    int64_t count = 1;
    for (const int64_t size : parameter.shape) count *= size;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(rng.normal());
    model.weights[parameter.name] = stored_at_odd_address(GgmlType::f32, parameter.shape, values.data(), values.size() * 4);
  }
  model.license = "mit";
  return model;
}

void expect_same_numbers(const StoredModel& a, const StoredModel& b) {
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (const auto& [name, weight] : a.weights) EXPECT_EQ(numbers_of(weight), numbers_of(b.weight(name))) << name;
}

TEST(StoredTensor, GivesNumbersOfEveryType) {
  const std::vector<float> values{1.5f, -2.0f, 0.25f, 8.0f, -0.5f, 3.0f};
  const std::vector<double> doubles(values.begin(), values.end());
  EXPECT_EQ(numbers_of(stored_at_odd_address(GgmlType::f32, {3, 2}, values.data(), 24)), values);
  EXPECT_EQ(numbers_of(stored_at_odd_address(GgmlType::f64, {3, 2}, doubles.data(), 48)), values);
  for (const GgmlType type : {GgmlType::f16, GgmlType::bf16}) {
    uint8_t halves[12];
    quantize_rows(type, values.data(), halves, 3, 2);
    EXPECT_EQ(numbers_of(stored_at_odd_address(type, {3, 2}, halves, 12)), values);
    EXPECT_EQ(numbers_of(stored_at_odd_address(type, {6}, halves, 12)), values);
  }
  const int8_t integers[6] = {1, -2, 3, 4, -5, 127};
  const float scales[3] = {0.5f, 2.0f, 1.0f};
  StoredTensor rows = stored_at_odd_address(GgmlType::i8, {3, 2}, integers, 6);
  rows.scales = {reinterpret_cast<const uint8_t*>(scales), sizeof scales};
  EXPECT_EQ(numbers_of(rows), (std::vector<float>{0.5f, -1.0f, 6.0f, 8.0f, -5.0f, 127.0f}));
  float part[2];
  rows.values(1, 1, part);
  EXPECT_EQ(part[0], 6.0f);
  EXPECT_EQ(part[1], 8.0f);
}

TEST(StoredTensor, RowsOfHeadsComeInTheParametersOrder) {
  // Two heads of four rows: the file has rows 0 2 1 3 of each.
  std::vector<float> in_file(8);
  for (int64_t head = 0; head < 2; ++head)
    for (int64_t row = 0; row < 4; ++row) in_file[static_cast<size_t>(head * 4 + row)] = static_cast<float>(head * 4 + permuted_row(row, 4));
  StoredTensor tensor = stored_at_odd_address(GgmlType::f32, {8, 1}, in_file.data(), 32);
  tensor.permuted_heads = 2;
  EXPECT_FALSE(tensor.plain());
  EXPECT_EQ(numbers_of(tensor), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
  tensor.plus_one = true;
  float part[3];
  tensor.values(5, 3, part);
  EXPECT_EQ(std::vector<float>(part, part + 3), (std::vector<float>{4, 5, 6}));
}

TEST(StoredModel, AFolderReadsBackAsItWasWritten) {
  TestFolder folder;
  for (const bool tied : {false, true}) {
    const StoredModel model = drawn_model(tied);
    write_hf(model, folder.path(), GgmlType::f32, int64_t{1} << 30);
    const StoredModel again = read_stored(folder.path());
    expect_same_numbers(model, again);
    EXPECT_EQ(again.license, "mit");
    EXPECT_TRUE(again.codes.empty());
    EXPECT_EQ(again.tokenizer, nullptr);
  }
}

TEST(StoredModel, ShardsHoldTheSame) {
  TestFolder folder;
  const StoredModel model = drawn_model();
  write_hf(model, folder.path(), GgmlType::f32, 9000);
  EXPECT_TRUE(std::filesystem::exists(folder / "model.safetensors.index.json"));
  expect_same_numbers(model, read_stored(folder.path()));
}

TEST(StoredModel, CodesStandBesideTheirNumbers) {
  TestFolder folder;
  StoredModel model = drawn_model();
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const std::vector<float> values = numbers_of(model.weight(name));
  std::vector<uint8_t> blocks(static_cast<size_t>(64 * ggml_row_bytes(GgmlType::q4_0, 32)));
  quantize_rows(GgmlType::q4_0, values.data(), blocks.data(), 64, 32);
  model.codes[name] = model.weights[name] = stored_at_odd_address(GgmlType::q4_0, {64, 32}, blocks.data(), blocks.size());
  write_hf(model, folder.path(), GgmlType::f32, int64_t{1} << 30);
  const StoredModel again = read_stored(folder.path());
  expect_same_numbers(model, again);
  const StoredTensor* code = again.code(name, GgmlType::q4_0);
  ASSERT_NE(code, nullptr);
  EXPECT_EQ(std::memcmp(code->bytes.data(), blocks.data(), blocks.size()), 0);
  EXPECT_EQ(again.code(name, GgmlType::q8_0), nullptr);
  EXPECT_NE(error_of([&] { write_hf(model, folder.path(), GgmlType::f16, int64_t{1} << 30); }).find("rounded again"), std::string::npos);
}

TEST(StoredModel, ANumberThatTheTypeCannotHoldIsNamed) {
  TestFolder folder;
  StoredModel model = drawn_model();
  std::vector<float> norm(32, 1.0f);
  norm[7] = INFINITY;
  model.weights["model.norm.weight"] = stored_at_odd_address(GgmlType::f32, {32}, norm.data(), 128);
  const std::string said = error_of([&] { write_hf(model, folder.path(), GgmlType::f16, int64_t{1} << 30); });
  EXPECT_NE(said.find("model.norm.weight"), std::string::npos) << said;
  EXPECT_NE(said.find("row 7"), std::string::npos) << said;
}

TEST(StoredModel, WhatIsNotThereIsNamed) {
  EXPECT_NE(error_of([] { drawn_model().weight("model.nothing"); }).find("model.nothing"), std::string::npos);
  EXPECT_NE(error_of([] { read_stored("someone/some-model"); }).find("hf download"), std::string::npos);
}

}  // namespace
}  // namespace attar
