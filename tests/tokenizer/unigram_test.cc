#include "tokenizer/unigram.h"

#include <sentencepiece_processor.h>

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <optional>

#include "base/check.h"
#include "base/files.h"
#include "data_path.h"
#include "tokenizer/line_workers.h"
#include "tokenizer/sentencepiece_encoder.h"
#include "tokenizer/training_text.h"

namespace attar {
namespace {

/// Small numbers from a seed.
struct PlainDice {
  uint32_t state = 1;
  uint32_t roll(uint32_t sides) { return ((state = state * 1664525u + 1013904223u) >> 8) % sides; }
  std::string text(uint32_t longest, std::string_view letters) {
    std::string out;
    for (uint32_t i = 0, n = 1 + roll(longest); i < n; ++i) out += letters[roll(static_cast<uint32_t>(letters.size()))];
    return out;
  }
};

TEST(PieceTrie, FindsWhatAMapFinds) {
  PlainDice dice;
  for (int round = 0; round < 20; ++round) {
    std::map<std::string, int32_t> texts;
    for (int i = 0; i < 300; ++i) texts.emplace(dice.text(6, round % 2 ? "abc" : std::string_view("a\xFF\x01z\x80", 5)), i);
    const PieceTrie trie({texts.begin(), texts.end()});
    const std::string text = dice.text(200, round % 2 ? "abcd" : std::string_view("a\xFF\x01z\x80q", 6));
    for (size_t at = 0; at < text.size(); ++at) {
      std::vector<std::pair<size_t, int32_t>> expected, found;
      for (size_t end = at + 1; end <= text.size(); ++end)
        if (const auto hit = texts.find(text.substr(at, end - at)); hit != texts.end()) expected.emplace_back(end, hit->second);
      trie.walk(text, at, [&](size_t end, int32_t id) { found.emplace_back(end, id); });
      EXPECT_EQ(found, expected);
    }
  }
  EXPECT_TRUE(PieceTrie({{"", 3}}).empty());
  const PieceTrie twice({{"a", 1}, {"a", 2}});
  EXPECT_EQ(twice.longest("a", 0), (std::pair<size_t, int32_t>{1, 1}));
}

TEST(Unigram, BestOfAllWaysToCut) {
  PlainDice dice;
  for (int round = 0; round < 60; ++round) {
    std::map<std::string, double> scores;
    for (int i = 0; i < 12; ++i) scores.emplace(dice.text(3, "abc"), -1.0 - 0.37 * dice.roll(40));
    std::vector<UnigramModel::Piece> pieces{{.text = "<unk>", .usable = false, .counted = false}};
    double lowest = 0;
    for (const auto& [text, score] : scores) {
      pieces.push_back({.text = text, .score = score});
      lowest = std::min(lowest, score);
    }
    const std::string text = dice.text(10, "abcd");
    // Sum of the best cut of the first n bytes, by definition.
    std::vector<double> best(text.size() + 1, -1e9);
    best[0] = 0;
    for (size_t end = 1; end <= text.size(); ++end)
      for (size_t begin = 0; begin < end; ++begin) {
        const auto piece = scores.find(text.substr(begin, end - begin));
        if (piece != scores.end()) best[end] = std::max(best[end], best[begin] + piece->second);
        else if (end - begin == 1) best[end] = std::max(best[end], best[begin] + lowest - 10);
      }
    for (const auto sums : {UnigramModel::Sums::single, UnigramModel::Sums::twice}) {
      std::vector<UnigramModel::Cut> cuts;
      UnigramModel(pieces, 0, sums).cut(text, cuts);
      double sum = 0;
      size_t at = 0;
      for (const auto& cut : cuts) {
        ASSERT_EQ(cut.begin, at);
        at = cut.end;
        sum += cut.id == 0 ? lowest - 10 : pieces[cut.id].score;
        if (cut.id != 0) { EXPECT_EQ(pieces[cut.id].text, text.substr(cut.begin, cut.end - cut.begin)); }
      }
      EXPECT_EQ(at, text.size());
      EXPECT_NEAR(sum, best.back(), 1e-4) << text;
    }
  }
}

TEST(SentencePieceEncoder, GivesTheLibrarysIds) {
  ATTAR_NEED_DATA("tokenizers/llama2/tokenizer.model");
  for (const char* name : {"tokenizers/llama2/tokenizer.model", "stories260K/tok512.model", "tokenizers/unigram_bytefallback_2000.model"}) {
    const std::string bytes = read_file(test_data() / name);
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(bytes).ok());
    const auto encoder = SentencePieceEncoder::of(parse_sentencepiece(bytes, name), name);
    ASSERT_TRUE(encoder) << name;
    PlainDice dice;
    for (int round = 0; round < 400; ++round) {
      const bool malformed = round % 4 == 0;
      const std::string_view letters = malformed ? "ab \xC3\xA9\xE4\xB8\xAD\xF0\x9F\xFF\n" : "the order of a  <s>1230.,'\n\t";
      const std::string text = round == 0 ? "" : dice.text(80, letters);
      std::vector<int32_t> ids;
      encoder->encode(text, ids);
      EXPECT_EQ(ids, library.EncodeAsIds(text)) << name << ": " << text;
    }
  }
}

/// A source of lines "0", "1", ... for work_lines.
std::function<bool(std::string&)> counted_lines(int64_t count) {
  return [at = int64_t{0}, count](std::string& line) mutable {
    line = std::string(static_cast<size_t>(at % 97), 'x') + std::to_string(at);
    return at++ < count;
  };
}

TEST(WorkLines, OrderDoesNotDependOnThreads) {
  const auto run = [](int64_t threads, int64_t lines) {
    std::string out;
    const auto work = [](const std::string& line, int64_t number, std::string& text) { text += str(number, ' ', line, '\n'); };
    work_lines(counted_lines(lines), threads, work, [&](std::string_view text) { out += text; });
    return out;
  };
  const std::string expected = run(1, 50000);
  EXPECT_EQ(std::count(expected.begin(), expected.end(), '\n'), 50000);
  EXPECT_TRUE(expected.starts_with("1 0\n2 x1\n"));
  for (const int64_t threads : {2, 3, 16, 0}) EXPECT_EQ(run(threads, 50000), expected);
  EXPECT_EQ(run(4, 0), "");
}

TEST(WorkLines, StopsAtTheFirstError) {
  for (const int64_t threads : {1, 4}) {
    std::string out;
    try {
      work_lines(counted_lines(100000), threads,
                 [](const std::string&, int64_t number, std::string& text) {
                   text += "half a line";
                   if (number >= 30000) fail(str("line ", number), "less");
                   text.resize(text.size() - 11);
                   text += '.';
                 },
                 [&](std::string_view text) { out += text; });
      ADD_FAILURE() << "went on";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("line 30000"), std::string::npos) << error.what();
    }
    EXPECT_EQ(out, std::string(29999, '.'));
    EXPECT_THROW(work_lines(counted_lines(10), threads, [](const std::string&, int64_t, std::string& text) { text += 'a'; },
                            [](std::string_view) { fail("disk", "space"); }),
                 Error);
  }
}

TEST(TrainingText, ReadsEveryKindOfFile) {
  TestFolder folder;
  write_file(folder / "a.txt", "one\n\ntwo\n");
  write_file(folder / "b.jsonl", "{\"body\": \"three\\nfour\"}\n");
  write_file(folder / "c.csv", "id,body\n1,\"five, with a comma\nsix\"\n");
  TrainingText text(folder.path(), "body");
  std::vector<std::string> lines;
  for (std::string line; text.next(line);) lines.push_back(line);
  EXPECT_EQ(lines, (std::vector<std::string>{"one", "two", "three", "four", "five, with a comma", "six"}));
  TrainingText wrong(folder / "c.csv", "text");
  std::string line;
  EXPECT_THROW(wrong.next(line), Error);
  EXPECT_THROW(TrainingText(folder / "absent", "body"), Error);
}

}  // namespace
}  // namespace attar
