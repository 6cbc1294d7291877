#include "formats/safetensors.h"

#include <cstring>

#include "damage.h"
#include "data_path.h"

namespace attar {
namespace {

std::string safetensors_bytes(const std::string& header, size_t data) {
  const uint64_t length = header.size();
  std::string out(reinterpret_cast<const char*>(&length), 8);
  out += header;
  for (size_t i = 0; i < data; ++i) out += static_cast<char>(i);
  return out;
}

// Reads everything a file holds, so that a wrong offset would be touched.
void read_safetensors(const fs::path& path) {
  const SafetensorsFile file(path);
  uint64_t sum = 0;
  for (const auto& [name, entry] : file.tensors())
    for (uint8_t byte : file.bytes(name)) sum += byte;
  EXPECT_GE(sum, 0u);
}

std::string safetensors_refusal(const fs::path& path, const std::string& header, size_t data) {
  put_bytes(path, safetensors_bytes(header, data));
  return error_of([&] { read_safetensors(path); });
}

TEST(Safetensors, WrittenFileReadsBack) {
  TestFolder folder;
  const auto path = folder / "model.safetensors";
  const std::vector<float> matrix = {1, 2, 3, 4, 5, 6};
  const std::vector<uint8_t> codes = {7, 8, 9};
  const double scalar = 2.5;
  {
    SafetensorsWriter writer(path, {{"z.weight", Dtype::f32, {2, 3}}, {"a \"quoted\" é", Dtype::u8, {3}}, {"empty", Dtype::f16, {0, 4}},
               {"scalar", Dtype::f64, {}}},
                             {{"format", "pt"}, {"line", "a\nb"}});
    writer.write(matrix.data(), 10);
    writer.write(reinterpret_cast<const char*>(matrix.data()) + 10, 14);
    writer.write(codes.data(), 3);
    writer.write(&scalar, 8);
    writer.commit();
  }
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.metadata().at("line"), "a\nb");
  const auto& z = file.tensors().at("z.weight");
  EXPECT_EQ(z.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(z.begin, 0u);
  EXPECT_EQ(z.elements(), 6);
  EXPECT_EQ(std::memcmp(file.bytes("z.weight").data(), matrix.data(), 24), 0);
  EXPECT_EQ(file.bytes("a \"quoted\" é")[2], 9);
  EXPECT_EQ(file.bytes("empty").size(), 0u);
  EXPECT_EQ(std::memcmp(file.bytes("scalar").data(), &scalar, 8), 0);
  EXPECT_EQ(file.tensors().at("scalar").elements(), 1);
  EXPECT_ERROR(file.bytes("missing"), "missing");

  const std::string whole = read_file(path);
  uint64_t length = 0;
  std::memcpy(&length, whole.data(), 8);
  EXPECT_EQ((length + 8) % 64, 0u);
  EXPECT_EQ(whole[8], '{');
  EXPECT_LT(whole.find("z.weight"), whole.find("quoted")) << "the declared order is the file's";
}

TEST(Safetensors, NoTensorsAtAll) {
  TestFolder folder;
  SafetensorsWriter writer(folder / "none.safetensors", {}, {});
  writer.commit();
  EXPECT_TRUE(SafetensorsFile(folder / "none.safetensors").tensors().empty());
}

TEST(Safetensors, WriterRefusesWhatWasNotDeclared) {
  TestFolder folder;
  const auto path = folder / "x.safetensors";
  const float value = 1;
  {
    SafetensorsWriter writer(path, {{"x", Dtype::f32, {2}}});
    writer.write(&value, 4);
    EXPECT_ERROR(writer.commit(), "4 bytes are missing");
    const double both[2] = {};
    EXPECT_ERROR(writer.write(both, 5), "4 bytes more");
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  EXPECT_ERROR(SafetensorsWriter(path, {{"x", Dtype::f32, {2}}, {"x", Dtype::f32, {2}}}), "'x'");
  EXPECT_ERROR(SafetensorsWriter(path, {{"__metadata__", Dtype::f32, {2}}}), "__metadata__");
  EXPECT_ERROR(SafetensorsWriter(path, {{"x", Dtype::f32, {-1}}}), "[-1]");
  EXPECT_ERROR(SafetensorsWriter(path, {{"x", Dtype::f32, {INT64_MAX, 3}}}), "2^63");
  EXPECT_ERROR(SafetensorsWriter(path, {{"\xff\xfe", Dtype::f32, {1}}}), "UTF-8");
}

TEST(Safetensors, ForeignFile) {
  TestFolder folder;
  // Header neither padded nor aligned, entries not in the order of the data: legal.
  put_bytes(folder / "f.safetensors",
            safetensors_bytes(R"({"b":{"shape":[2],"dtype":"U8","data_offsets":[3,5]}, "a":{"dtype":"U8","shape":[3,1],"data_offsets":[0,3]}} )", 5));
  const SafetensorsFile file(folder / "f.safetensors");
  EXPECT_EQ(file.bytes("b")[0], 3);
  EXPECT_EQ(file.bytes("a").size(), 3u);
  EXPECT_TRUE(file.metadata().empty());
}

TEST(Safetensors, RefusesByName) {
  TestFolder folder;
  const auto path = folder / "x.safetensors";
  const auto refusal = [&](const std::string& header, size_t data) { return safetensors_refusal(path, header, data); };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos ? ::testing::AssertionSuccess()
                                               : ::testing::AssertionFailure() << "'" << part << "' not in: " << text;
  };
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1), "F8_E4M3"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2), "no hole"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"v":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                      3), "no overlap"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3), "2 bytes"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,2]}})", 2), "8 bytes"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2), "[2, 0]"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2,3]}})", 2), "2 numbers"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0), "2^63"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"F64","shape":[18446744073709551615],"data_offsets":[0,0]}})", 0), "2^63"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"F64","shape":[-1],"data_offsets":[0,0]}})", 0), "negative"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"F64","shape":[1.5],"data_offsets":[0,0]}})", 0), "fraction"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2), "two"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1), "two"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[1],"extra":1,"data_offsets":[0,1]}})", 1), "extra"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[1]}})", 1), "data_offsets"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1), "a list"));
  EXPECT_TRUE(has(refusal(R"({"w":{"dtype":"U8","shape":{"a":1},"data_offsets":[0,1]}})", 1), "an object"));
  EXPECT_TRUE(has(refusal(R"({"w":3})", 0), "an object of dtype"));
  EXPECT_TRUE(has(refusal(R"({"__metadata__":{"a":1}})", 0), "text"));
  EXPECT_TRUE(has(refusal(R"({"__metadata__":{"a":"1","a":"2"}})", 0), "two"));
  EXPECT_TRUE(has(refusal(R"({"__metadata__":{},"__metadata__":{}})", 0), "two"));
  EXPECT_TRUE(has(refusal("{} x", 0), "JSON"));
  EXPECT_TRUE(has(refusal("[]", 0), "'{'"));
  EXPECT_TRUE(has(refusal("", 0), "'{'"));
  EXPECT_TRUE(has(refusal(std::string("{\"w\":") + std::string(300000, '['), 0), "a list"));
  EXPECT_TRUE(has(refusal("{\"\xff\":{}}", 0), "JSON"));
  const uint64_t huge = UINT64_MAX;
  put_bytes(path, std::string(reinterpret_cast<const char*>(&huge), 8) + "{}");
  EXPECT_ERROR(SafetensorsFile(path), "header length");
  const uint64_t beyond = 90'000'000;
  put_bytes(path, std::string(reinterpret_cast<const char*>(&beyond), 8) + "{}");
  EXPECT_ERROR(SafetensorsFile(path), "cut short");
  EXPECT_ERROR(SafetensorsFile(folder / "absent.safetensors"), "absent.safetensors");
}

TEST(Safetensors, EveryCutAndEveryChangedByte) {
  TestFolder folder;
  const auto path = folder / "x.safetensors";
  SafetensorsWriter writer(path, {{"layer.weight", Dtype::bf16, {2, 3}}, {"scalar", Dtype::i64, {}}, {"none", Dtype::u8, {0}}});
  const std::string data(20, 'x');
  writer.write(data.data(), data.size());
  writer.commit();
  const std::string whole = read_file(path);
  expect_every_cut_refused(path, whole, [&] { read_safetensors(path); });
  EXPECT_GT(expect_no_crash_when_changed(path, whole, [&] { read_safetensors(path); }), 100);
}

void put_safetensors(const fs::path& path, const std::vector<std::string>& names) {
  std::vector<SafetensorsWriter::Declared> declared;
  for (const auto& name : names) declared.push_back({name, Dtype::u8, {1}});
  SafetensorsWriter writer(path, declared);
  for (const auto& name : names) writer.write(name.data(), 1);
  writer.commit();
}

TEST(SafetensorsFolder, ShardsAndTheirIndex) {
  TestFolder folder;
  put_safetensors(folder / "model-00001-of-00002.safetensors", {"a", "b"});
  put_safetensors(folder / "model-00002-of-00002.safetensors", {"c", "unmapped"});
  const auto index = folder / "model.safetensors.index.json";
  put_bytes(index, R"({"metadata":{"total_size":3,"other":[1,{"weight_map":2}]},"weight_map":{"a":"model-00001-of-00002.safetensors",
    "b":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors"}})");
  {
    const SafetensorsFolder model(folder.path());
    EXPECT_EQ(model.tensors().size(), 3u);
    EXPECT_EQ(model.total_bytes(), 3u);
    EXPECT_EQ(model.bytes("c")[0], 'c');
    model.release("c");
    EXPECT_EQ(model.bytes("c")[0], 'c');
    EXPECT_ERROR(model.bytes("d"), "'d'");
  }
  put_bytes(index, R"({"weight_map":{"a":"model-00002-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})");
  EXPECT_ERROR(SafetensorsFolder(folder.path()), "'b'");
  for (const char* outside : {"../x.safetensors", "/etc/passwd", "a/../../x", ""}) {
    put_bytes(index, std::string(R"({"weight_map":{"a":")") + outside + "\"}}");
    EXPECT_ERROR(SafetensorsFolder(folder.path()), "weight_map");
  }
  for (const char* wrong : {R"({"metadata":{}})", R"({"weight_map":[]})", R"({"weight_map":3})", R"({"weight_map":{"a":{"b":"c"}}})",
             R"({"weight_map":{"a":1}})", "[]", "3", "\"x\"", "{",
                            R"({"weight_map":{"a":"x","a":"y"}})", R"({"weight_map":{},"weight_map":{}})", ""}) {
    put_bytes(index, wrong);
    EXPECT_THROW(SafetensorsFolder(folder.path()), Error) << wrong;
  }
  put_bytes(index, R"({"weight_map":{"a":"model-00003.safetensors"}})");
  EXPECT_ERROR(SafetensorsFolder(folder.path()), "model-00003");
}

TEST(SafetensorsFolder, OneFileWinsOverAnIndex) {
  TestFolder folder;
  EXPECT_ERROR(SafetensorsFolder(folder.path()), "neither");
  put_safetensors(folder / "model.safetensors", {"only"});
  put_bytes(folder / "model.safetensors.index.json", "not JSON");
  EXPECT_EQ(SafetensorsFolder(folder.path()).tensors().size(), 1u);
}

}  // namespace
}  // namespace attar
