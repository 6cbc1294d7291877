#include "data/curate.h"

#include <cmath>
#include <set>

#include "base/check.h"
#include "base/rng.h"
#include "data_path.h"
#include "formats/text_lines.h"

namespace attar {
namespace {

std::string words_from(Rng& rng, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += str(i ? " " : "", "w", rng.below(5000));
  return out;
}

/// `text` with `changes` of its words replaced.
std::string changed(const std::string& text, int changes, Rng& rng) {
  std::vector<std::string> words = compared_words(text);
  for (int i = 0; i < changes; ++i) words[static_cast<size_t>(rng.below(static_cast<int64_t>(words.size())))] = str("new", rng.below(100000));
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

double true_similarity(const std::string& a, const std::string& b) {
  const auto first = word_runs(a, 5), second = word_runs(b, 5);
  const std::set<uint64_t> one(first.begin(), first.end()), two(second.begin(), second.end());
  int64_t common = 0;
  for (const uint64_t run : one) common += two.count(run);
  return static_cast<double>(common) / static_cast<double>(one.size() + two.size() - common);
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::vector<std::string> out;
  LineReader lines(file);
  for (std::string line; lines.next(line);) out.push_back(line);
  return out;
}

TEST(Curate, WordsAreComparedWithoutCaseAndPunctuation) {
  EXPECT_EQ(compared_words("The café-bar, No. 7!"), (std::vector<std::string>{"the", "café", "bar", "no", "7"}));
  EXPECT_TRUE(compared_words(" ...\n").empty());
  EXPECT_EQ(word_runs("a b c d", 3).size(), 2u);
  EXPECT_EQ(word_runs("a b", 3).size(), 1u);
  EXPECT_EQ(word_runs("A, b; c", 3), word_runs("a b c", 3));
  EXPECT_NE(word_runs("ab c", 3), word_runs("a bc", 3));
  EXPECT_EQ(compared_words("\xff\xfe x").size(), 2u) << "broken bytes are words like others";
}

TEST(Curate, NearDuplicatesAreThoseOfHighSimilarity) {
  Rng rng(3);
  int found = 0, alike = 0, wrong = 0, apart = 0;
  for (int i = 0; i < 150; ++i) {
    SeenTexts seen({.threshold = 0.7, .words = 5});
    const std::string text = words_from(rng, 120), other = changed(text, i % 20, rng);
    EXPECT_EQ(seen.add(text), SeenTexts::Found::fresh);
    for (int k = 0; k < 5; ++k) seen.add(words_from(rng, 120));
    const double similarity = true_similarity(text, other);
    const SeenTexts::Found said = seen.add(other);
    if (similarity > 0.85) ++alike, found += said != SeenTexts::Found::fresh;
    if (similarity < 0.55) ++apart, wrong += said != SeenTexts::Found::fresh;
  }
  ASSERT_GT(alike, 10);
  ASSERT_GT(apart, 10);
  EXPECT_EQ(found, alike);
  EXPECT_EQ(wrong, 0);
  EXPECT_THROW(SeenTexts({.threshold = 0.05, .words = 5}), Error);
}

TEST(Curate, DedupKeepsTheFirstOfAlikeRows) {
  TestFolder folder;
  std::string long_text = "one";
  for (int i = 0; i < 20; ++i) long_text += str(" word", i);
  std::string rows;
  int64_t id = 0;
  for (const std::string& text : {long_text, std::string("Hello!"), std::string("hello"), long_text + " more", std::string("something else")})
    rows += Json{{"id", ++id}, {"text", text}}.dump() + "\n";
  write_file(folder / "a.jsonl", rows);
  const CurationResult near = dedup_rows(folder / "a.jsonl", folder / "near.jsonl", "text", {});
  EXPECT_EQ(near.kept, 3);
  EXPECT_EQ(near.more, (Json{{"exact", 1}, {"near", 1}}));
  EXPECT_NE(lines_of(folder / "near.jsonl")[2].find("\"id\":5"), std::string::npos);
  const CurationResult exact = dedup_rows(folder / "a.jsonl", folder / "exact.jsonl", "text", {.threshold = 2, .words = 5});
  EXPECT_EQ(exact.kept, 4);
  EXPECT_EQ(dedup_rows(folder / "a.jsonl", folder / "x.jsonl", "", {}).kept, 3) << "every text of a row";
  EXPECT_THROW(dedup_rows(folder / "a.jsonl", folder / "y.jsonl", "body", {}), Error);
  EXPECT_FALSE(fs::exists(folder / "y.jsonl"));
}

TEST(Curate, DecontaminationDropsWhatHoldsARunOfTheTest) {
  TestFolder folder;
  write_file(folder / "test.jsonl", "{\"q\": \"what is the capital of the large country of France today\"}\n{\"q\": \"short one\"}\n");
  write_file(folder / "a.jsonl",
             "{\"text\": \"They asked: What is the capital of the LARGE country? Nobody knew.\"}\n{\"text\": \"the capital of a large country\"}\n"
             "{\"text\": \"Short, one.\"}\n");
  const CurationResult result = decontaminate_rows(folder / "a.jsonl", folder / "test.jsonl", folder / "out.jsonl", "", 8);
  EXPECT_EQ(result.read, 3);
  ASSERT_EQ(result.kept, 1);
  EXPECT_NE(lines_of(folder / "out.jsonl")[0].find("of a large"), std::string::npos);
  EXPECT_THROW(decontaminate_rows(folder / "a.jsonl", folder / "a.jsonl", folder / "none.jsonl", "", 8), Error) << "nothing stays";
  EXPECT_FALSE(fs::exists(folder / "none.jsonl"));
}

TEST(Curate, ASplitFollowsTextsNotTheirOrder) {
  TestFolder folder;
  std::string rows, reversed;
  for (int i = 0; i < 400; ++i) {
    const std::string row = str("{\"n\":", i, ",\"text\":\"text number ", i % 200, "\"}\n");
    rows += row;
    reversed = row + reversed;
  }
  write_file(folder / "a.jsonl", rows);
  write_file(folder / "b.jsonl", reversed);
  const CurationResult result = split_into(folder / "a.jsonl", folder / "a", "text", 0.2, 5);
  split_into(folder / "b.jsonl", folder / "b", "text", 0.2, 5);
  const auto test = lines_of(folder / "a" / "test.jsonl"), other = lines_of(folder / "b" / "test.jsonl");
  EXPECT_EQ(std::set<std::string>(test.begin(), test.end()), std::set<std::string>(other.begin(), other.end()));
  EXPECT_NEAR(static_cast<double>(test.size()), 80, 40);
  EXPECT_EQ(test.size() + lines_of(folder / "a" / "train.jsonl").size(), 400u);
  std::set<std::string> held;
  const auto text = [](const std::string& line) { return line.substr(line.find("text number")); };
  for (const auto& line : test) held.insert(text(line));
  for (const auto& line : lines_of(folder / "a" / "train.jsonl")) EXPECT_EQ(held.count(text(line)), 0u) << "equal texts stay together";
  EXPECT_THROW(split_into(folder / "a.jsonl", folder / "c", "text", 0, 5), Error);
  EXPECT_NE(lines_of((split_into(folder / "a.jsonl", folder / "d", "text", 0.2, 6), folder / "d" / "test.jsonl")), test);
}

}  // namespace
}  // namespace attar
