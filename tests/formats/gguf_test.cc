#include "formats/gguf.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "damage.h"
#include "data_path.h"

namespace attar {
namespace {

// Builds GGUF bytes by hand, right or wrong.
class GgufBytes {
 public:
  template <class T>
  GgufBytes& number(std::type_identity_t<T> value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBytes& text(const std::string& value) {
    number<uint64_t>(value.size());
    bytes += value;
    return *this;
  }
  GgufBytes& start(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    bytes = "GGUF";
    return number<uint32_t>(version).number<uint64_t>(tensors).number<uint64_t>(keys);
  }
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& dims, int32_t type, uint64_t offset) {
    text(name).number<uint32_t>(static_cast<uint32_t>(dims.size()));
    for (uint64_t size : dims) number<uint64_t>(size);
    return number<int32_t>(type).number<uint64_t>(offset);
  }
  GgufBytes& pad(size_t to = 32) {
    bytes.append((to - bytes.size() % to) % to, '\0');
    return *this;
  }
  GgufBytes& data(size_t size) {
    bytes.append(size, 'd');
    return *this;
  }
  std::string bytes;
};

void read_gguf(const fs::path& path) {
  const GgufFile file(path);
  uint64_t sum = 0;
  for (const auto& tensor : file.tensors())
    for (uint8_t byte : file.bytes(tensor)) sum += byte;
  EXPECT_GE(sum, 0u);
}

std::string gguf_refusal(const fs::path& path, const GgufBytes& file) {
  put_bytes(path, file.bytes);
  return error_of([&] { read_gguf(path); });
}

::testing::AssertionResult gguf_has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos ? ::testing::AssertionSuccess()
                                               : ::testing::AssertionFailure() << "'" << part << "' not in: '" << text << "'";
}

GgufMetadata gguf_every_kind() {
  GgufMetadata metadata;
  metadata.set("general.architecture", "llama");
  metadata.set("u8", uint8_t{200});
  metadata.set("i8", int8_t{-3});
  metadata.set("u16", uint16_t{60000});
  metadata.set("i16", int16_t{-300});
  metadata.set("u32", uint32_t{4000000000u});
  metadata.set("i32", int32_t{-70000});
  metadata.set("u64", uint64_t{1} << 63);
  metadata.set("i64", int64_t{-5});
  metadata.set("f32", 0.25f);
  metadata.set("f64", 1e-300);
  metadata.set("bool", true);
  metadata.set("text", std::string("a\0b", 3));
  metadata.set("list.text", std::vector<std::string>{"", "x", "é"});
  metadata.set("list.f32", std::vector<float>{1.5f, -2});
  metadata.set("list.i32", std::vector<int32_t>{1, -2, 3});
  metadata.set("list.u32", std::vector<uint32_t>{4, 8});
  metadata.set("list.u8", std::vector<uint8_t>{1});
  metadata.set("list.i8", std::vector<int8_t>{-1});
  metadata.set("list.u16", std::vector<uint16_t>{2});
  metadata.set("list.i16", std::vector<int16_t>{-2});
  metadata.set("list.i64", std::vector<int64_t>{-9});
  metadata.set("list.u64", std::vector<uint64_t>{9});
  metadata.set("list.f64", std::vector<double>{0.1});
  metadata.set("list.bool", std::vector<bool>{true, false, true});
  metadata.set("list.none", std::vector<float>{});
  return metadata;
}

TEST(Gguf, BytesAreThoseOfTheFormat) {
  TestFolder folder;
  GgufMetadata metadata;
  metadata.set("general.architecture", "llama");
  metadata.set("n", uint32_t{7});
  metadata.set("list", std::vector<std::string>{"ab"});
  GgufWriter writer(folder / "x.gguf", metadata, {{"w", GgmlType::f32, {2, 3}}, {"b", GgmlType::q8_0, {32}}});
  const std::string data(24, 'd'), block(34, 'd');
  writer.write(data.data(), 24);
  writer.write(block.data(), 34);
  writer.commit();

  GgufBytes expected;
  expected.start(2, 3);
  expected.text("general.architecture").number<int32_t>(8).text("llama");
  expected.text("n").number<int32_t>(4).number<uint32_t>(7);
  expected.text("list").number<int32_t>(9).number<int32_t>(8).number<uint64_t>(1).text("ab");
  expected.tensor("w", {3, 2}, 0, 0).tensor("b", {32}, 8, 32);  // sizes are written fastest first
  expected.pad().data(24).pad().data(34).pad();
  EXPECT_EQ(read_file(folder / "x.gguf"), expected.bytes);
}

TEST(Gguf, BytesMayComeInAnyOrder) {
  TestFolder folder;
  GgufMetadata metadata;
  metadata.set("general.architecture", "llama");
  const std::vector<GgufWriter::Declared> tensors{{"w", GgmlType::f32, {2, 3}}, {"b", GgmlType::q8_0, {32}}};
  const std::string data = "abcdefghijklmnopqrstuvwx", block(34, 'd');
  GgufWriter in_order(folder / "x.gguf", metadata, tensors), mixed(folder / "y.gguf", metadata, tensors);
  in_order.write(data.data(), 24);
  in_order.write(block.data(), 34);
  in_order.commit();
  mixed.any_order();
  mixed.write_at(1, 0, block.data(), 34);
  mixed.write_at(0, 10, data.data() + 10, 14);
  EXPECT_ERROR(mixed.write_at(0, 20, data.data(), 5), "inside a declared tensor");
  EXPECT_ERROR(mixed.write_at(2, 0, data.data(), 1), "inside a declared tensor");
  EXPECT_ERROR(mixed.commit(), "not given all bytes");
  EXPECT_FALSE(std::filesystem::exists(folder / "y.gguf"));
  mixed.write_at(0, 0, data.data(), 10);
  mixed.commit();
  EXPECT_EQ(read_file(folder / "y.gguf"), read_file(folder / "x.gguf"));
}

TEST(Gguf, EveryKindOfMetadataReadsBack) {
  TestFolder folder;
  const GgufMetadata metadata = gguf_every_kind();
  GgufWriter writer(folder / "x.gguf", metadata, {});
  writer.commit();
  const GgufFile file(folder / "x.gguf");
  ASSERT_EQ(file.metadata().entries().size(), metadata.entries().size());
  for (size_t i = 0; i < metadata.entries().size(); ++i)
    EXPECT_TRUE(file.metadata().entries()[i] == metadata.entries()[i]) << metadata.entries()[i].first;
}

TEST(Gguf, MetadataIsAskedByMeaning) {
  GgufMetadata m = gguf_every_kind();
  EXPECT_EQ(m.integer("u8"), 200);
  EXPECT_EQ(m.integer("i64"), -5);
  EXPECT_EQ(m.integer("absent", 12), 12);
  EXPECT_EQ(m.number("f32"), 0.25);
  EXPECT_EQ(m.number("i16"), -300);
  EXPECT_EQ(m.number("absent", 0.5), 0.5);
  EXPECT_TRUE(m.boolean("bool", false));
  EXPECT_TRUE(m.boolean("absent", true));
  EXPECT_EQ(m.text("general.architecture"), "llama");
  EXPECT_EQ(m.text("absent", "other"), "other");
  EXPECT_EQ(m.per_layer("u8", 3), (std::vector<int64_t>{200, 200, 200}));
  EXPECT_EQ(m.per_layer("list.i32", 3), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_ERROR(m.per_layer("list.i32", 4), "4 integers");
  EXPECT_ERROR(m.per_layer("list.f32", 2), "integers");
  EXPECT_ERROR(m.per_layer("text", 2), "text");
  EXPECT_ERROR(m.integer("u64"), "2^63");
  EXPECT_ERROR(m.integer("f32"), "fraction");
  EXPECT_ERROR(m.integer("bool"), "boolean");
  EXPECT_ERROR(m.integer("text", 3), "text");
  EXPECT_ERROR(m.number("list.f32"), "list");
  EXPECT_ERROR(m.boolean("u8", true), "integer");
  EXPECT_ERROR(m.text("u8"), "integer");
  EXPECT_ERROR(m.text("general.architectur"), "general.architecture");
  m.set("u8", 3);
  EXPECT_EQ(m.entries()[1].first, "u8");
  EXPECT_EQ(m.integer("u8"), 3);
  m.erase("u8");
  EXPECT_FALSE(m.has("u8"));
}

TEST(Gguf, TensorsReadBack) {
  TestFolder folder;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::string blocks(2 * 18 * 2, 'q');
  GgufWriter writer(folder / "x.gguf", gguf_every_kind(), {{"w", GgmlType::f32, {2, 3}}, {"q", GgmlType::q4_0, {2, 64}}, {"v", GgmlType::f32, {6}}});
  std::string all(reinterpret_cast<const char*>(values.data()), 24);
  all += blocks;
  all.append(reinterpret_cast<const char*>(values.data()), 24);
  for (size_t at = 0; at < all.size(); at += 7) writer.write(all.data() + at, std::min<size_t>(7, all.size() - at));  // pieces may cross tensors
  writer.commit();
  const GgufFile file(folder / "x.gguf");
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(fs::file_size(folder / "x.gguf") % 32, 0u);
  const GgufTensor* w = file.find("w");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(w->rows(), 2);
  EXPECT_EQ(w->columns(), 3);
  EXPECT_EQ(std::memcmp(file.bytes(*w).data(), values.data(), 24), 0);
  const GgufTensor* q = file.find("q");
  EXPECT_EQ(q->size, blocks.size());
  EXPECT_EQ(std::memcmp(file.bytes(*q).data(), blocks.data(), blocks.size()), 0);
  file.release(*q);
  EXPECT_EQ(file.bytes(*q)[0], 'q');
  EXPECT_EQ(std::memcmp(file.bytes(*file.find("v")).data(), values.data(), 24), 0);
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Gguf, WriterRefuses) {
  TestFolder folder;
  const auto path = folder / "x.gguf";
  const GgufMetadata none;
  EXPECT_ERROR(GgufWriter(path, none, {{std::string(64, 'n'), GgmlType::f32, {1}}}), "63 bytes");
  EXPECT_NO_THROW(GgufWriter(path, none, {{std::string(63, 'n'), GgmlType::f32, {1}}}));
  EXPECT_ERROR(GgufWriter(path, none, {{"", GgmlType::f32, {1}}}), "name");
  EXPECT_ERROR(GgufWriter(path, none, {{"a", GgmlType::f32, {1}}, {"a", GgmlType::f32, {1}}}), "'a'");
  EXPECT_ERROR(GgufWriter(path, none, {{"a", GgmlType::q4_0, {64, 48}}}), "multiple of 32");
  EXPECT_ERROR(GgufWriter(path, none, {{"a", GgmlType::f32, {}}}), "1 to 4");
  EXPECT_ERROR(GgufWriter(path, none, {{"a", GgmlType::f32, {1, 1, 1, 1, 1}}}), "1 to 4");
  EXPECT_ERROR(GgufWriter(path, none, {{"a", GgmlType::f32, {0}}}), "positive");
  EXPECT_ERROR(GgufWriter(path, none, {{"a", GgmlType::f32, {INT64_MAX, 2}}}), "2^63");
  GgufMetadata aligned;
  aligned.set("general.alignment", uint32_t{64});
  EXPECT_ERROR(GgufWriter(path, aligned, {}), "32");
  GgufMetadata nameless;
  nameless.set("", 1);
  EXPECT_ERROR(GgufWriter(path, nameless, {}), "key");
  const float values[3] = {};
  GgufWriter writer(path, none, {{"a", GgmlType::f32, {2}}});
  writer.write(values, 4);
  EXPECT_ERROR(writer.commit(), "1 whole tensors");
  EXPECT_ERROR(writer.write(values, 12), "8 bytes more");
  EXPECT_FALSE(fs::exists(path));
}

TEST(Gguf, ReaderRefusesByName) {
  TestFolder folder;
  const auto path = folder / "x.gguf";
  const auto refusal = [&](const GgufBytes& file) { return gguf_refusal(path, file); };
  const auto one = [&](int32_t type, const std::vector<uint64_t>& dims, uint64_t offset, size_t data, const std::string& name = "w") {
    return refusal(GgufBytes().start(1, 0).tensor(name, dims, type, offset).pad().data(data).pad());
  };
  EXPECT_EQ(one(0, {8}, 0, 32), "");
  EXPECT_EQ(refusal(GgufBytes().start(1, 0, 2).tensor("w", {8}, 0, 0).pad().data(32)), "") << "version 2 has the same layout";
  EXPECT_EQ(refusal(GgufBytes().start(0, 0)), "");
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(0, 0, 0x03000000)), "big-endian"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(0, 0, 1)), "version"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(0, 0, 4)), "version"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().data(100)), "starts with GGUF"));
  EXPECT_TRUE(gguf_has(one(17, {256}, 0, 96), "iq2_xs"));
  EXPECT_TRUE(gguf_has(one(4, {32}, 0, 32), "retired"));
  EXPECT_TRUE(gguf_has(one(-1, {32}, 0, 32), "unknown"));
  EXPECT_TRUE(gguf_has(one(2, {48, 2}, 0, 64), "multiple of 32"));
  EXPECT_TRUE(gguf_has(one(0, {8}, 32, 64), "no hole"));
  EXPECT_TRUE(gguf_has(one(0, {8}, 0, 64), "32 bytes"));
  EXPECT_TRUE(gguf_has(one(0, {0}, 0, 0), "positive"));
  EXPECT_TRUE(gguf_has(one(0, {}, 0, 0), "1 to 4"));
  EXPECT_TRUE(gguf_has(one(0, {1, 1, 1, 1, 1}, 0, 32), "1 to 4"));
  EXPECT_TRUE(gguf_has(one(0, {uint64_t{1} << 63}, 0, 32), "2^63"));
  EXPECT_TRUE(gguf_has(one(0, {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 32), "2^63"));
  EXPECT_TRUE(gguf_has(one(0, {uint64_t{1} << 62}, 0, 32), "2^63"));
  EXPECT_TRUE(gguf_has(one(0, {uint64_t{1} << 60}, 0, 32), "cut short"));
  EXPECT_TRUE(gguf_has(one(0, {8}, 0, 32, std::string(64, 'n')), "63 bytes"));
  EXPECT_TRUE(gguf_has(one(0, {8}, 0, 32, ""), "63 bytes"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(2, 0).tensor("w", {8}, 0, 0).tensor("w", {8}, 0, 32).pad().data(64)), "taken"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(2, 0).tensor("w", {8}, 0, 0).tensor("v", {8}, 0, 0).pad().data(64)), "no hole"));
  // Many tensors whose sum leaves 64 bits.
  GgufBytes sum;
  sum.start(3, 0);
  for (uint64_t i = 0; i < 3; ++i)
    sum.tensor(std::string(1, static_cast<char>('a' + i)), {uint64_t{1} << 60, 7}, 24, i * 7 * (uint64_t{1} << 60));
  EXPECT_TRUE(gguf_has(refusal(sum.pad().data(32)), "2^64"));

  const auto value = [&](const std::function<void(GgufBytes&)>& put) {
    GgufBytes file;
    file.start(0, 1).text("key");
    put(file);
    return refusal(file);
  };
  EXPECT_EQ(value([](GgufBytes& f) { f.number<int32_t>(7).number<uint8_t>(1); }), "");
  EXPECT_TRUE(gguf_has(value([](GgufBytes& f) { f.number<int32_t>(7).number<uint8_t>(2); }), "boolean"));
  EXPECT_TRUE(gguf_has(value([](GgufBytes& f) { f.number<int32_t>(13).number<uint64_t>(2); }), "0 to 12"));
  EXPECT_TRUE(gguf_has(value([](GgufBytes& f) { f.number<int32_t>(9).number<int32_t>(9).number<uint64_t>(1).number<uint64_t>(0); }), "nested"));
  EXPECT_TRUE(gguf_has(value([](GgufBytes& f) { f.number<int32_t>(9).number<int32_t>(77).number<uint64_t>(1).number<uint64_t>(0); }), "77"));
  for (int32_t kind : {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12}) {
    for (uint64_t count : {uint64_t{100}, uint64_t{1} << 30, (uint64_t{1} << 30) + 1, uint64_t{1} << 61, UINT64_MAX})
      EXPECT_NE(value([&](GgufBytes& f) {
        f.number<int32_t>(9).number<int32_t>(kind).number<uint64_t>(count).number<uint64_t>(0);
      }), "") << kind << " " << count;
  }
  EXPECT_TRUE(gguf_has(value([](GgufBytes& f) { f.number<int32_t>(8).number<uint64_t>(uint64_t{1} << 40); }), "2^30"));
  EXPECT_TRUE(gguf_has(value([](GgufBytes& f) { f.number<int32_t>(8).number<uint64_t>(1 << 20); }), "cut short"));
  const auto keyed = [](const std::string& a, const std::string& b) {
    return GgufBytes().start(0, 2).text(a).number<int32_t>(0).number<uint8_t>(1).text(b).number<int32_t>(0).number<uint8_t>(1);
  };
  EXPECT_EQ(refusal(keyed("a", "b")), "");
  EXPECT_TRUE(gguf_has(refusal(keyed("a", "a")), "two"));
  EXPECT_TRUE(gguf_has(refusal(keyed("a", "").data(1)), "empty"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(UINT64_MAX, 0)), "number of tensors"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(0, UINT64_MAX)), "metadata keys"));
  EXPECT_TRUE(gguf_has(refusal(GgufBytes().start(0, 0).pad().data(3)), "none"));
}

TEST(Gguf, AlignmentOfTheFileIsFollowed) {
  TestFolder folder;
  const auto path = folder / "x.gguf";
  const auto file = [](uint32_t alignment, uint64_t second) {
    return GgufBytes().start(2, 1).text("general.alignment").number<int32_t>(4).number<uint32_t>(alignment)
        .tensor("a", {1}, 0, 0).tensor("b", {1}, 0, second);
  };
  EXPECT_EQ(gguf_refusal(path, file(64, 64).pad(64).data(128)), "");
  EXPECT_EQ(gguf_refusal(path, file(8, 8).pad(8).data(16)), "");
  EXPECT_TRUE(gguf_has(gguf_refusal(path, file(64, 32).pad(64).data(128)), "offset"));
  EXPECT_TRUE(gguf_has(gguf_refusal(path, file(24, 24).pad(64).data(128)), "power of two"));
  EXPECT_TRUE(gguf_has(gguf_refusal(path, file(0, 0).pad(64).data(128)), "power of two"));
  EXPECT_NE(gguf_refusal(path, file(1u << 31, 1u << 31).pad(64).data(128)), "");
  EXPECT_TRUE(gguf_has(gguf_refusal(path, GgufBytes().start(0, 1).text("general.alignment").number<int32_t>(10).number<uint64_t>(32)),
              "another type"));
}

TEST(Gguf, EveryCutAndEveryChangedByte) {
  TestFolder folder;
  const auto path = folder / "x.gguf";
  GgufWriter writer(path, gguf_every_kind(), {{"token_embd.weight", GgmlType::q8_0, {2, 32}}, {"output_norm.weight", GgmlType::f32, {5}}});
  const std::string data(68 + 20, 'x');
  writer.write(data.data(), data.size());
  writer.commit();
  const std::string whole = read_file(path);
  expect_every_cut_refused(path, whole, [&] { read_gguf(path); });
  EXPECT_GT(expect_no_crash_when_changed(path, whole, [&] { read_gguf(path); }), 500);
}

TEST(Gguf, VocabulariesOfLlamaCpp) {
  ATTAR_NEED_DATA("tokenizers/vocab-tests");
  for (const auto& [name, tokens] : std::map<std::string, size_t>
           {{"ggml-vocab-gpt-2.gguf", 50257}, {"ggml-vocab-llama-spm.gguf", 32000}, {"ggml-vocab-phi-3.gguf", 32064}}) {
    const GgufFile file(test_data() / "tokenizers" / "vocab-tests" / name);
    const auto* list = file.metadata().find("tokenizer.ggml.tokens");
    ASSERT_NE(list, nullptr) << name;
    EXPECT_EQ(std::get<std::vector<std::string>>(*list).size(), tokens) << name;
  }
}

}  // namespace
}  // namespace attar
