#include "formats/onnx.h"

#include <cstring>
#include <functional>

#include "base/check.h"
#include "data_path.h"

namespace attar {
namespace {

/// y = x w + b with a weight of `rows` rows, written into `folder`.
void write_small_onnx(const fs::path& folder, int64_t rows, uint64_t inline_limit) {
  OnnxWriter writer(21, 10, "0");
  writer.input("x", OnnxType::f32, {{"batch_size"}, {"", rows}});
  const std::vector<float> weight(static_cast<size_t>(rows) * 4, 0.5f);
  writer.initializer("w", OnnxType::f32, {rows, 4}, weight.size() * 4, [weight](const auto& sink) {
    sink(weight.data(), 4);
    sink(weight.data() + 1, weight.size() * 4 - 4);
  });
  const float b[4] = {1, 2, 3, 4};
  writer.constant("b", OnnxType::f32, {4}, b, sizeof b);
  writer.node("MatMul", {"x", "w"}, {"product"});
  writer.node("Gather", {"b", "b"}, {"unused"}, {{"axis", int64_t{-1}}, {"alpha", 0.25f}, {"mode", std::string("a")}, {"list",
      std::vector<int64_t>{3, -4}}, {"reals", std::vector<float>{1.5f}}},
              "com.microsoft");
  writer.node("Add", {"product", "b"}, {"y"});
  writer.output("y", OnnxType::f32, {{"batch_size"}, {"", 4}});
  writer.metadata("attar.spec", "{}");
  writer.write(folder, inline_limit);
}

std::string onnx_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.faults().front().line();
  }
  return "";
}

TEST(Onnx, WhatIsWrittenIsRead) {
  TestFolder folder;
  write_small_onnx(folder.path(), 6, 1 << 20);
  EXPECT_FALSE(fs::exists(folder / "model.onnx.data"));
  const OnnxFile file(folder / "model.onnx");
  ASSERT_EQ(file.nodes().size(), 3u);
  const OnnxNode& node = file.nodes()[1];
  EXPECT_EQ(node.op, "Gather");
  EXPECT_EQ(node.domain, "com.microsoft");
  EXPECT_EQ(node.inputs, (std::vector<std::string>{"b", "b"}));
  EXPECT_EQ(std::get<int64_t>(node.attributes.at("axis")), -1);
  EXPECT_EQ(std::get<float>(node.attributes.at("alpha")), 0.25f);
  EXPECT_EQ(std::get<std::string>(node.attributes.at("mode")), "a");
  EXPECT_EQ(std::get<std::vector<int64_t>>(node.attributes.at("list")), (std::vector<int64_t>{3, -4}));
  EXPECT_EQ(std::get<std::vector<float>>(node.attributes.at("reals")), std::vector<float>{1.5f});
  const OnnxInitializer& w = file.initializers().at("w");
  EXPECT_EQ(w.shape, (std::vector<int64_t>{6, 4}));
  float value = 0;
  std::memcpy(&value, w.bytes.data() + 23 * 4, 4);
  EXPECT_EQ(value, 0.5f);
  EXPECT_EQ(file.metadata().at("attar.spec"), "{}");
}

TEST(Onnx, LargeTensorsGoBesideTheModelOnPages) {
  TestFolder folder;
  write_small_onnx(folder.path(), 2000, 1000);
  EXPECT_EQ(fs::file_size(folder / "model.onnx.data"), 32000u);
  {
    const OnnxFile file(folder / "model.onnx");
    EXPECT_EQ(file.initializers().at("w").bytes.size(), 32000u);
    EXPECT_EQ(file.initializers().at("b").bytes.size(), 16u);
  }
  fs::resize_file(folder / "model.onnx.data", 31999);
  EXPECT_NE(onnx_error([&] { OnnxFile(folder / "model.onnx"); }).find("cut short"), std::string::npos);
  fs::remove(folder / "model.onnx.data");
  EXPECT_NE(onnx_error([&] { OnnxFile(folder / "model.onnx"); }).find("model.onnx.data"), std::string::npos);
}

TEST(Onnx, ExternalDataStaysInItsFolder) {
  TestFolder folder;
  write_small_onnx(folder.path(), 2000, 1000);
  for (const std::string name : {"../odel.onnx.da", "/etc/hostname/x", "a/model.onnx.da"}) {
    std::string bytes = read_file(folder / "model.onnx");
    bytes.replace(bytes.find("model.onnx.data"), 15, name);
    write_file(folder / "bad.onnx", bytes);
    EXPECT_NE(onnx_error([&] { OnnxFile(folder / "bad.onnx"); }), "") << name;
  }
}

TEST(Onnx, WrongUseIsNamed) {
  OnnxWriter writer(21, 10, "0");
  writer.input("x", OnnxType::f32, {{"n"}});
  EXPECT_NE(onnx_error([&] { writer.node("Relu", {"z"}, {"y"}); }).find("z"), std::string::npos);
  EXPECT_NE(onnx_error([&] { writer.node("Relu", {"x"}, {"x"}); }).find("taken"), std::string::npos);
  EXPECT_NE(onnx_error([&] { writer.constant("c", OnnxType::i64, {2}, "1234567", 8); }).find("16 bytes"), std::string::npos);
}

TEST(Onnx, DamagedFilesEndInASentence) {
  TestFolder folder;
  write_small_onnx(folder.path(), 6, 1 << 20);
  const std::string whole = read_file(folder / "model.onnx");
  for (size_t length = 0; length < whole.size(); length += 3) {
    write_file(folder / "cut.onnx", whole.substr(0, length));
    // A cut between two fields leaves a file that is whole but poorer; nothing else may pass.
    const std::string line = onnx_error([&] { EXPECT_LE(OnnxFile(folder / "cut.onnx").initializers().size(), 2u); });
    EXPECT_EQ(line.find('\n'), std::string::npos);
  }
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0xFF);
    write_file(folder / "bad.onnx", bad);
    onnx_error([&] { OnnxFile(folder / "bad.onnx"); });
  }
}

}  // namespace
}  // namespace attar
