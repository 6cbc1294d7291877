#include "formats/text_lines.h"

#include <zstd.h>

#include "damage.h"
#include "data_path.h"

namespace attar {
namespace {

std::string zstd_frame(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::vector<std::string> all_lines(const fs::path& path) {
  LineReader reader(path);
  std::vector<std::string> lines;
  std::string line;
  while (reader.next(line)) {
    lines.push_back(line);
    EXPECT_EQ(reader.number(), static_cast<int64_t>(lines.size()));
  }
  EXPECT_FALSE(reader.next(line));
  return lines;
}

std::vector<std::vector<std::string>> all_rows(const fs::path& path) {
  CsvReader reader(path);
  std::vector<std::vector<std::string>> rows = {reader.columns()};
  std::vector<std::string> row;
  while (reader.next(row)) rows.push_back(row);
  return rows;
}

TEST(LineReader, SplitsOnNewlinesOnly) {
  TestFolder folder;
  const auto path = folder / "x.txt";
  using Lines = std::vector<std::string>;
  for (const auto& [text, expected] : std::vector<std::pair<std::string, Lines>>{
           {"", {}}, {"\n", {""}}, {"a", {"a"}}, {"a\n", {"a"}}, {"a\n\nb", {"a", "", "b"}}, {"a\r\nb\r", {"a\r", "b\r"}},
                      {std::string("a\0b\n", 4), {std::string("a\0b", 3)}}}) {
    put_bytes(path, text);
    EXPECT_EQ(all_lines(path), expected);
    EXPECT_EQ(read_text(path), text);
    put_bytes(folder / "x.txt.zst", zstd_frame(text));
    EXPECT_EQ(all_lines(folder / "x.txt.zst"), expected);
    EXPECT_EQ(read_text(folder / "x.txt.zst"), text);
  }
}

TEST(LineReader, LinesLongerThanTheBuffer) {
  TestFolder folder;
  std::string text;
  std::vector<std::string> expected;
  for (size_t size : {1u, 262143u, 262144u, 262145u, 1000000u, 0u, 5u}) {
    expected.emplace_back(size, static_cast<char>('a' + size % 7));
    text += expected.back() + "\n";
  }
  put_bytes(folder / "x.txt", text);
  EXPECT_EQ(all_lines(folder / "x.txt"), expected);
  put_bytes(folder / "x.zst", zstd_frame(text.substr(0, 300000)) + zstd_frame(text.substr(300000)));  // frames may follow one another
  EXPECT_EQ(all_lines(folder / "x.zst"), expected);
}

TEST(LineReader, RefusesByName) {
  TestFolder folder;
  EXPECT_ERROR(LineReader(folder / "absent.txt"), "absent.txt");
  EXPECT_ERROR(LineReader(folder.path()), "a folder");
  put_bytes(folder / "x.zst", "this is no zstd");
  EXPECT_ERROR(all_lines(folder / "x.zst"), "x.zst");
  const std::string whole = zstd_frame("first line\nsecond line, a little longer, again, again, again, again\n");
  expect_every_cut_refused(folder / "y.zst", whole, [&] { all_lines(folder / "y.zst"); });
  expect_no_crash_when_changed(folder / "y.zst", whole, [&] { all_lines(folder / "y.zst"); });
  put_bytes(folder / "z.zst", whole + whole.substr(0, whole.size() / 2));
  EXPECT_ERROR(all_lines(folder / "z.zst"), "cut short");
}

TEST(LineReader, NovelsStream) {
  ATTAR_NEED_DATA("novels/train.jsonl.zst");
  LineReader reader(test_data() / "novels" / "train.jsonl.zst");
  std::string line;
  int64_t bytes = 0;
  while (reader.next(line)) {
    ASSERT_FALSE(line.empty());
    EXPECT_EQ(line.front(), '{');
    EXPECT_EQ(line.back(), '}');
    bytes += static_cast<int64_t>(line.size());
  }
  EXPECT_EQ(reader.number(), 70);
  EXPECT_GT(bytes, 50'000'000);
}

TEST(TextEnding, WithoutCompression) {
  EXPECT_EQ(text_ending("a/data.jsonl.zst"), ".jsonl");
  EXPECT_EQ(text_ending("a/data.csv"), ".csv");
  EXPECT_EQ(text_ending("data.zst"), "");
  EXPECT_EQ(text_ending("data"), "");
}

TEST(Csv, Rfc4180) {
  TestFolder folder;
  const auto path = folder / "x.csv";
  using Rows = std::vector<std::vector<std::string>>;
  const Rows expected = {{"text", "label"}, {"a, \"b\"\nc", "x"}, {"", ""}, {"é ", "1"}};
  for (const std::string end : {"\n", "\r\n"}) {
    const std::string text = "text,label" + end + "\"a, \"\"b\"\"\nc\",x" + end + ",\"\"" + end + end + "é ,1";
    for (const std::string& last : {std::string(), end}) {
      put_bytes(path, text + last);
      EXPECT_EQ(all_rows(path), expected);
      put_bytes(folder / "x.csv.zst", zstd_frame(text + last));
      EXPECT_EQ(all_rows(folder / "x.csv.zst"), expected);
    }
  }
  put_bytes(path, "\xef\xbb\xbfone\r\na\r\n\r\n\"x\r\ny\"\r\n");
  EXPECT_EQ(all_rows(path), (Rows{{"one"}, {"a"}, {""}, {"x\r\ny"}}));
  put_bytes(path, "a,b\nx\ry,\n");
  EXPECT_EQ(all_rows(path), (Rows{{"a", "b"}, {"x\ry", ""}}));
}

TEST(Csv, RefusesByLine) {
  TestFolder folder;
  const auto path = folder / "x.csv";
  const auto refusal = [&](const std::string& text) {
    put_bytes(path, text);
    return error_of([&] { all_rows(path); });
  };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos ? ::testing::AssertionSuccess()
                                               : ::testing::AssertionFailure() << "'" << part << "' not in: " << text;
  };
  EXPECT_TRUE(has(refusal(""), "empty"));
  EXPECT_TRUE(has(refusal("\n\n"), "empty"));
  EXPECT_TRUE(has(refusal("a,a\n"), "'a'"));
  EXPECT_TRUE(has(refusal("a,b\n1,2\n1\n"), "x.csv:3"));
  EXPECT_TRUE(has(refusal("a,b\n\"1\n\n\",2\n1,2,3\n"), "x.csv:5"));
  EXPECT_TRUE(has(refusal("a,b\n1,\"2\n3,4\n"), "x.csv:2"));
  EXPECT_TRUE(has(refusal("a,b\n1,\"2\"x\n"), "x.csv:2"));
  EXPECT_TRUE(has(refusal("a,b\n1,x\"2\"\n"), "doubled"));
}

TEST(Csv, Banking77) {
  ATTAR_NEED_DATA("banking77");
  for (const auto& [name, count] : std::vector<std::pair<std::string, size_t>>{{"train.csv", 10003}, {"test.csv", 3080}}) {
    const auto rows = all_rows(test_data() / "banking77" / name);
    EXPECT_EQ(rows.size(), count + 1);
    EXPECT_EQ(rows[0], (std::vector<std::string>{"text", "category"}));
  }
}

}  // namespace
}  // namespace attar
