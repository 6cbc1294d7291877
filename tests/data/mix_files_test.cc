#include "data/mix_files.h"

#include "base/check.h"
#include "data_path.h"

namespace attar {
namespace {

/// count rows {"text": "<name><i>"}.
fs::path numbered_rows(const TestFolder& folder, const std::string& name, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += Json{{"text", name + std::to_string(i)}}.dump() + "\n";
  write_file(folder / (name + ".jsonl"), text);
  return folder / (name + ".jsonl");
}

std::vector<std::string> texts_in(const fs::path& file) {
  std::vector<std::string> out;
  std::istringstream in(read_file(file));
  for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line)["text"].get<std::string>());
  return out;
}

TEST(MixFiles, EachFileHasItsShareAtAnyMomentAndItsOrder) {
  TestFolder folder;
  const fs::path a = numbered_rows(folder, "a", 60), b = numbered_rows(folder, "b", 60), out = folder / "mixed.jsonl";
  const CurationResult result = mix_files({{a, 3.0}, {b, 1.0}}, out, {.seed = 7});
  const std::vector<std::string> texts = texts_in(out);
  int64_t of_a = 0, of_b = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    int64_t& taken = texts[i][0] == 'a' ? of_a : of_b;
    EXPECT_EQ(texts[i].substr(1), std::to_string(taken++));
    EXPECT_NEAR(static_cast<double>(of_a), 0.75 * static_cast<double>(i + 1), 1.5) << "row " << i;
  }
  EXPECT_EQ(of_a, 60) << "until the first file has no more rows";
  EXPECT_NEAR(static_cast<double>(of_b), 20, 1);
  EXPECT_EQ(result.kept, static_cast<int64_t>(texts.size()));
  EXPECT_EQ(result.read, 120);
  EXPECT_EQ(result.more["files"][0]["written"], 60);
  EXPECT_DOUBLE_EQ(result.more["files"][1]["share"].get<double>(), 0.25);
  // The same seed, the same bytes.
  mix_files({{a, 3.0}, {b, 1.0}}, folder / "again.jsonl", {.seed = 7});
  EXPECT_EQ(read_file(out), read_file(folder / "again.jsonl"));
  bool differs = false;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    mix_files({{a, 3.0}, {b, 1.0}}, folder / "again.jsonl", {.seed = seed});
    differs = differs || read_file(out) != read_file(folder / "again.jsonl");
  }
  EXPECT_TRUE(differs);
}

TEST(MixFiles, WithoutWeightsSizesCountUnderATemperature) {
  TestFolder folder;
  const fs::path a = numbered_rows(folder, "a", 80), b = numbered_rows(folder, "b", 20), out = folder / "mixed.jsonl";
  EXPECT_DOUBLE_EQ(mix_files({{a, {}}, {b, {}}}, out, {}).more["files"][0]["share"].get<double>(), 0.8);
  // Square roots: 8.94 to 4.47; the smaller file begins again.
  const CurationResult even = mix_files({{a, {}}, {b, {}}}, out, {.temperature = 2, .rows = 90});
  EXPECT_NEAR(even.more["files"][0]["share"].get<double>(), 2.0 / 3, 1e-12);
  const std::vector<std::string> texts = texts_in(out);
  EXPECT_EQ(texts.size(), 90u);
  EXPECT_EQ(std::count(texts.begin(), texts.end(), "b3"), 2);
  EXPECT_EQ(std::count(texts.begin(), texts.end(), "b15"), 1);
}

TEST(MixFiles, WhatCannotBeMixedIsSaid) {
  TestFolder folder;
  const fs::path a = numbered_rows(folder, "a", 3), out = folder / "mixed.jsonl";
  write_file(folder / "empty.jsonl", "\n");
  write_file(folder / "broken.jsonl", "{\"text\": \"x\"}\n{broken\n");
  const auto refused = [&](const std::vector<MixFile>& files, const MixFilesOptions& options = {}) {
    try {
      mix_files(files, out, options);
    } catch (const Error& error) {
      EXPECT_FALSE(fs::exists(out));
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(refused({{a, {}}}).find("two files"), std::string::npos);
  EXPECT_NE(refused({{a, 1.0}, {a, {}}}).find("1 of 2"), std::string::npos);
  EXPECT_NE(refused({{a, 1.0}, {a, -1.0}}).find("above 0"), std::string::npos);
  EXPECT_NE(refused({{a, {}}, {folder / "empty.jsonl", {}}}).find("empty.jsonl"), std::string::npos);
  EXPECT_NE(refused({{a, {}}, {folder / "broken.jsonl", {}}}).find("broken.jsonl:2"), std::string::npos);
  EXPECT_NE(refused({{a, {}}, {a, {}}}, {.temperature = 0}).find("temperature"), std::string::npos);
}

}  // namespace
}  // namespace attar
