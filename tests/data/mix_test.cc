#include "data/mix.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>
#include <set>

#include "base/check.h"
#include "byte_tokenizer.h"
#include "data/curriculum.h"
#include "data_path.h"

namespace attar {
namespace {

std::vector<int64_t> numbers(int64_t first, int64_t count) {
  std::vector<int64_t> out(static_cast<size_t>(count));
  std::iota(out.begin(), out.end(), first);
  return out;
}

/// Rows of 40 one-token-longer-each examples, row r having r % 20 + 5 tokens or so.
TokenRows some_rows(const TestFolder& folder, int count, const std::string& letter) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += "{\"prompt\": \"" + std::string(static_cast<size_t>(i % 20 + 1), letter[0]) + "\", \"answer\": \"" + letter + "\"}\n";
  write_file(folder / (letter + ".jsonl"), text);
  DataConfig config;
  config.seq = 32;
  config.pack = false;
  DocumentReader reader(folder / (letter + ".jsonl"), config);
  return make_rows(reader, ByteTokenizer(), config);
}

bool equal_batches(const Batch& a, const Batch& b) {
  if (a.columns.size() != b.columns.size()) return false;
  for (const auto& [name, tensor] : a.columns)
    if (!b.has(name) || !tensor.equal(b.at(name))) return false;
  return true;
}

TEST(Mix, SharesFollowWeightsOrSizesUnderATemperature) {
  const std::vector<std::optional<double>> none(3), weights = {3.0, 1.0, 4.0};
  const std::vector<double> given = mix_shares({10, 100, 1000}, weights, 1);
  EXPECT_DOUBLE_EQ(given[0], 3.0 / 8);
  EXPECT_DOUBLE_EQ(given[2], 0.5);
  const std::vector<double> plain = mix_shares({10, 100, 1000}, none, 1), even = mix_shares({10, 100, 1000}, none, 2);
  EXPECT_NEAR(plain[0], 10.0 / 1110, 1e-15);
  const double sum = std::sqrt(10.0) + 10 + std::sqrt(1000.0);
  EXPECT_NEAR(even[0], std::sqrt(10.0) / sum, 1e-15);
  EXPECT_NEAR(even[1], 10 / sum, 1e-15);
  EXPECT_THROW(mix_shares({1, 2, 3}, {1.0, std::nullopt, 1.0}, 1), Error);
  EXPECT_THROW(mix_shares({1, 2, 3}, {1.0, 0.0, 1.0}, 1), Error);
  EXPECT_THROW(mix_shares({1, 2, 3}, none, 0), Error);
}

TEST(Mix, EachPartIsDrawnAsOftenAsItsShareSaysAtAnyMoment) {
  const std::vector<double> shares = {0.62, 0.3, 0.07, 0.01};
  std::vector<DrawPart> parts;
  for (int64_t i = 0; i < 4; ++i) parts.push_back({numbers(i * 1000, 50), shares[static_cast<size_t>(i)]});
  RowDraws draws(parts, 7);
  std::vector<double> counts(4);
  for (int64_t drawn = 1; drawn <= 5000; ++drawn) {
    ++counts[static_cast<size_t>(draws.next() / 1000)];
    for (size_t i = 0; i < 4; ++i) ASSERT_LT(std::abs(counts[i] - shares[i] * static_cast<double>(drawn)), 2) << "part " << i << " after " << drawn;
  }
}

TEST(Mix, APartGivesEachRowOnceBeforeAnyAgain) {
  RowDraws draws({{numbers(0, 30), 0.75}, {numbers(100, 7), 0.25}}, 3);
  std::vector<int64_t> first, second;
  while (first.size() < 90 || second.size() < 21) {
    const int64_t row = draws.next();
    (row < 100 ? first : second).push_back(row);
  }
  for (int epoch = 0; epoch < 3; ++epoch) {
    EXPECT_EQ(std::set<int64_t>(first.begin() + epoch * 30, first.begin() + epoch * 30 + 30).size(), 30u);
    EXPECT_EQ(std::set<int64_t>(second.begin() + epoch * 7, second.begin() + epoch * 7 + 7).size(), 7u);
  }
  EXPECT_FALSE(std::equal(first.begin(), first.begin() + 30, first.begin() + 30)) << "another order every time";
  EXPECT_THROW(RowDraws({{{}, 1}}, 3), Error);
}

TEST(Mix, AWarmUpOpensRowsFromEasyToHard) {
  constexpr int64_t kRows = 400, kWarm = 1600;
  RowDraws draws({{numbers(0, kRows), 1}}, 5, kWarm, 0.25);
  std::set<int64_t> after;
  for (int64_t at = 0; at < kWarm + kRows; ++at) {
    const int64_t row = draws.next();
    const double open = at < kWarm ? 0.25 + 0.75 * static_cast<double>(at * RowDraws::kLevels / kWarm) / RowDraws::kLevels : 1;
    ASSERT_LT(row, std::ceil(open * kRows)) << "draw " << at;
    if (at >= kWarm) after.insert(row);
  }
  EXPECT_EQ(after.size(), static_cast<size_t>(kRows)) << "after the warm-up every row comes once";
  EXPECT_THROW(RowDraws({{numbers(0, 4), 1}}, 5, 10, 0), Error);
}

TEST(Mix, SeekGivesTheSameBatchesForAnyNumberOfRanks) {
  TestFolder folder;
  const TokenRows rows = join_rows({some_rows(folder, 40, "a"), some_rows(folder, 23, "b")}, {"a", "b"});
  const auto source = [&](int64_t rank, int64_t ranks) {
    return MixSource(rows, RowDraws({{numbers(0, 40), 0.4}, {numbers(40, 23), 0.6}}, 9, 60, 0.3), 6, rank, ranks);
  };
  MixSource whole = source(0, 1);
  std::vector<Batch> batches(30);
  for (Batch& batch : batches) whole.next(batch);
  for (const int64_t position : {17, 0, 29, 5, 11}) {
    Batch batch;
    whole.seek(position);
    EXPECT_EQ(whole.position(), position);
    whole.next(batch);
    EXPECT_TRUE(equal_batches(batch, batches[static_cast<size_t>(position)])) << position;
    std::vector<at::Tensor> parts;
    for (int64_t rank = 0; rank < 3; ++rank) {
      MixSource part = source(rank, 3);
      part.seek(position);
      part.next(batch);
      parts.push_back(batch.at("rows"));
    }
    EXPECT_TRUE(at::cat(parts).equal(batches[static_cast<size_t>(position)].at("rows"))) << position;
  }
  EXPECT_THROW(source(0, 4), Error) << "6 rows for 4 ranks";
}

TEST(Mix, JoinedRowsAreThePartsOneAfterTheOther) {
  TestFolder folder;
  const TokenRows a = some_rows(folder, 40, "a"), b = some_rows(folder, 23, "b"), both = join_rows({a, b}, {"a", "b"});
  ASSERT_EQ(both.rows(), 63);
  EXPECT_TRUE(both.ids.slice(0, 40).equal(b.ids));
  EXPECT_EQ(both.parts[1].rows, 23);
  EXPECT_EQ(both.parts[1].name, "b");
  EXPECT_EQ(both.learned_tokens(), a.learned_tokens() + b.learned_tokens());
  EXPECT_NE(both.fingerprint, join_rows({b, a}, {"b", "a"}).fingerprint);
  EXPECT_NE(both.data_hash, join_rows({b, a}, {"b", "a"}).data_hash);
}

TEST(Curriculum, LengthIsThatOfARowsDocuments) {
  TestFolder folder;
  write_file(
      folder / "a.jsonl",
      "{\"prompt\": \"ab\", \"answer\": \"c\"}\n{\"prompt\": \"abcd\", \"answer\": \"c\"}\n{\"prompt\": \"abcdefghijkl\", \"answer\": \"cdef\"}\n");
  DataConfig config;
  config.seq = 18;
  DocumentReader reader(folder / "a.jsonl", config);
  const TokenRows rows = make_rows(reader, ByteTokenizer(), config);
  ASSERT_EQ(rows.rows(), 2) << "two short ones share a row";
  EXPECT_EQ(document_lengths(rows), (std::vector<double>{6, 18}));
}

TEST(Curriculum, FilterDropsBothEndsAndSaysWhere) {
  const std::vector<double> losses = {9, 1, 5, 5, 2, 8, 3, 4, 7, 6, 100, 0};
  const KeptRows kept = keep_by_loss(numbers(0, 10), losses, {.drop_highest = 0.2, .drop_lowest = 0.3});
  EXPECT_EQ(kept.rows, (std::vector<int64_t>{2, 3, 7, 8, 9})) << "rows 10 and 11 are not asked about";
  EXPECT_EQ(kept.dropped_highest, 2);
  EXPECT_EQ(kept.dropped_lowest, 3);
  EXPECT_EQ(kept.lowest, 4);
  EXPECT_EQ(kept.highest, 7);
  EXPECT_EQ(keep_by_loss(numbers(0, 10), losses, {}).rows, numbers(0, 10));
  EXPECT_EQ(keep_by_loss(numbers(0, 3), losses, {.drop_highest = 0.3, .drop_lowest = 0}).rows.size(), 3u) << "less than a row is none";
  EXPECT_THROW(keep_by_loss(numbers(0, 10), losses, {.drop_highest = 0.5, .drop_lowest = 0.5}), Error);
  EXPECT_THROW(keep_by_loss(numbers(0, 10), losses, {.drop_highest = 1, .drop_lowest = 0}), Error);
  EXPECT_THROW(keep_by_loss(numbers(0, 10), losses, {.drop_highest = -0.1, .drop_lowest = 0}), Error);
}

TEST(Curriculum, EqualsAreSortedByNumber) {
  EXPECT_EQ(sorted_by({4, 3, 2, 1, 0}, {1, 0, 1, 0, 1}), (std::vector<int64_t>{1, 3, 0, 2, 4}));
}

}  // namespace
}  // namespace attar
