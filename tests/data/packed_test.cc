#include "data/packed.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/json.h"
#include "byte_tokenizer.h"
#include "data_path.h"

namespace attar {
namespace {

TokenRows rows_to_pack(const TestFolder& folder) {
  std::string text;
  for (int i = 0; i < 30; ++i)
    text += Json{{"prompt", "q" + std::string(static_cast<size_t>(i % 9), 'x')}, {"answer", "a" + std::to_string(i)}}.dump() + "\n";
  write_file(folder / "a.jsonl", text);
  DataConfig config;
  config.seq = 24;
  DocumentReader reader(folder / "a.jsonl", config);
  return make_rows(reader, ByteTokenizer(), config);
}

std::string packed_refusal(const fs::path& folder, const std::string& tokenizer = "t") {
  try {
    read_packed(folder, tokenizer);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Packed, RowsComeBackWithTheirIdentity) {
  TestFolder folder;
  const TokenRows rows = rows_to_pack(folder);
  ASSERT_GT(rows.rows(), 5);
  EXPECT_FALSE(is_packed(folder.path()));
  write_packed(rows, "t", folder / "p", 4);
  ASSERT_TRUE(is_packed(folder / "p"));
  const TokenRows back = read_packed(folder / "p", "t");
  EXPECT_TRUE(back.ids.equal(rows.ids));
  EXPECT_TRUE(back.learn.equal(rows.learn));
  EXPECT_TRUE(back.segments.equal(rows.segments));
  EXPECT_TRUE(back.lengths.equal(rows.lengths));
  EXPECT_EQ(back.fingerprint, rows.fingerprint);
  EXPECT_EQ(back.data_hash, rows.data_hash) << "a cache of the text serves the packed rows";
  write_packed(rows, "t", folder / "again", 4);
  for (const auto& entry : fs::directory_iterator(folder / "p"))
    EXPECT_EQ(read_file(entry.path()), read_file(folder / "again" / entry.path().filename())) << entry.path();
  EXPECT_THROW(write_packed(rows, "t", folder / "p", 4), Error) << "nothing is written over";
}

TEST(Packed, DamageIsNamed) {
  TestFolder folder;
  const TokenRows rows = rows_to_pack(folder);
  write_packed(rows, "t", folder / "whole", 4);
  EXPECT_NE(packed_refusal(folder / "whole", "other").find("tokenizer"), std::string::npos);
  const auto copy = [&](const std::string& name) {
    fs::remove_all(folder / name);
    fs::copy(folder / "whole", folder / name);
    return folder / name;
  };
  const fs::path missing = copy("missing");
  fs::remove(missing / "rows-00000001.h5");
  EXPECT_NE(packed_refusal(missing).find("rows-00000001.h5"), std::string::npos);
  const fs::path cut = copy("cut");
  fs::resize_file(cut / "rows-00000000.h5", 100);
  EXPECT_NE(packed_refusal(cut).find("rows-00000000.h5"), std::string::npos);
  const fs::path swapped = copy("swapped");
  fs::rename(swapped / "rows-00000000.h5", swapped / "x");
  fs::rename(swapped / "rows-00000001.h5", swapped / "rows-00000000.h5");
  fs::rename(swapped / "x", swapped / "rows-00000001.h5");
  EXPECT_NE(packed_refusal(swapped).find("rows-00000000.h5"), std::string::npos);
  // The same swap with checksums that fit: the rows are others.
  Json said = read_json(swapped / "packed.json");
  std::swap(said["shards"][0]["sha256"], said["shards"][1]["sha256"]);
  write_json(swapped / "packed.json", said);
  EXPECT_NE(packed_refusal(swapped).find("exchanged"), std::string::npos);
  const std::vector<std::pair<std::string, Json>> lies = {{"seq", 1},     {"rows", -1}, {"rows", 1000}, {"version", 2}, {"shards", Json::array()},
                                                          {"shards", 5}};
  for (const auto& [key, value] : lies) {
    const fs::path lying = copy("lying");
    Json other = read_json(lying / "packed.json");
    other[key] = value;
    write_json(lying / "packed.json", other);
    EXPECT_NE(packed_refusal(lying).find("packed.json"), std::string::npos) << key;
  }
  write_file(copy("nothing") / "packed.json", "[]");
  EXPECT_NE(packed_refusal(folder / "nothing").find("packed.json"), std::string::npos);
}

}  // namespace
}  // namespace attar
