#include <ATen/ATen.h>

#include "base/check.h"
#include "byte_tokenizer.h"
#include "data/rows.h"
#include "data/source.h"
#include "data/task.h"
#include "data_path.h"

namespace attar {
namespace {

TokenRows rows_of(const fs::path& path, const DataConfig& config, const Tokenizer& tokenizer = ByteTokenizer()) {
  DocumentReader reader(path, config);
  return make_rows(reader, tokenizer, config);
}

std::string row_text(const TokenRows& rows, int64_t row) {
  const at::Tensor ids = rows.ids[row].slice(0, 0, rows.lengths[row].item<int>()).contiguous();
  return ByteTokenizer().decode({ids.data_ptr<int32_t>(), ids.data_ptr<int32_t>() + ids.numel()});
}

fs::path short_examples(const TestFolder& folder, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const std::string filling(static_cast<size_t>(i * 7 % 11), 'x');
    text += "{\"prompt\": \"q" + filling + str(i) + "\", \"answer\": \"a" + str(i) + "\"}\n";
  }
  write_file(folder / "examples.jsonl", text);
  return folder / "examples.jsonl";
}

TEST(Rows, PackedTextsFollowEachOtherAndAreCutAtRowEnds) {
  TestFolder folder;
  write_file(folder / "a.jsonl", "{\"text\": \"abcde\"}\n{\"text\": \"fg\"}\n{\"text\": \"hijklmnopqrst\"}\n");
  DataConfig config;
  config.seq = 8;
  const TokenRows rows = rows_of(folder / "a.jsonl", config);
  ASSERT_EQ(rows.rows(), 4);
  EXPECT_EQ(row_text(rows, 0), "<s>abcde</s><s>");
  EXPECT_EQ(row_text(rows, 1), "fg</s><s>hijk");
  EXPECT_EQ(row_text(rows, 2), "lmnopqrs");
  EXPECT_EQ(row_text(rows, 3), "t</s>");
  EXPECT_EQ(rows.segments[0][6].item<int>(), 0);
  EXPECT_EQ(rows.segments[0][7].item<int>(), 1);
  EXPECT_EQ(rows.segments[1][0].item<int>(), 0);
  EXPECT_EQ(rows.segments[3][2].item<int>(), -1);
  EXPECT_EQ(rows.learn[0][0].item<int>(), 0);      // BOS is never predicted
  EXPECT_EQ(rows.learn[0][6].item<int>(), 1);      // EOS is
  // 24 tokens; first of each of the 6 stretches has nothing before it
  EXPECT_EQ(rows.learned_tokens(), 26 - 6);
}

TEST(Rows, PackedExamplesStayWhole) {
  TestFolder folder;
  DataConfig config;
  config.seq = 32;
  const auto file = short_examples(folder, 40);
  const TokenRows rows = rows_of(file, config);
  EXPECT_LT(rows.rows(), 25);
  DocumentReader reader(file, config);
  std::multiset<std::string> want, have;
  int64_t learned = 0;
  for (Document document; reader.next(document);) {
    const auto rendered = render_document(document, ByteTokenizer());
    want.insert(ByteTokenizer().decode(rendered.ids));
    learned += std::count(rendered.learn.begin(), rendered.learn.end(), 1);
  }
  for (int64_t r = 0; r < rows.rows(); ++r) {
    std::map<int, std::string> parts;
    for (int64_t t = 0; t < rows.lengths[r].item<int>(); ++t)
      parts[rows.segments[r][t].item<int>()] += ByteTokenizer().decode({rows.ids[r][t].item<int>()});
    for (const auto& [segment, text] : parts) have.insert(text);
  }
  EXPECT_EQ(have, want);
  EXPECT_EQ(rows.learned_tokens(), learned);
}

TEST(Rows, OneExampleARowShortensThePromptNotTheAnswer) {
  TestFolder folder;
  write_file(folder / "a.jsonl", "{\"prompt\": \"abcdefghij\", \"answer\": \"yes\"}\n{\"prompt\": \"k\", \"answer\": \"no\"}\n");
  DataConfig config;
  config.seq = 8;
  config.pack = false;
  const TokenRows rows = rows_of(folder / "a.jsonl", config);
  ASSERT_EQ(rows.rows(), 2);
  EXPECT_EQ(row_text(rows, 0), "<s>hijyes</s>");
  EXPECT_EQ(row_text(rows, 1), "<s>kno</s>");
  EXPECT_EQ(rows.learned_tokens(), 4 + 3);
  config.seq = 4;
  try {
    rows_of(folder / "a.jsonl", config);
    FAIL() << "an answer was cut";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("1 of 2"), std::string::npos) << error.what();
  }
}

TEST(Rows, EmptyDataIsRefused) {
  TestFolder folder;
  write_file(folder / "a.jsonl", "\n\n");
  write_file(folder / "b.csv", "text\n");
  write_file(folder / "c.txt", "");
  for (const char* name : {"a.jsonl", "b.csv", "c.txt"}) {
    try {
      rows_of(folder / name, {});
      ADD_FAILURE() << name << " was taken";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  }
}

TEST(Rows, FingerprintFollowsIdsAndMasks) {
  TestFolder folder;
  const auto file = short_examples(folder, 40);
  DataConfig config;
  config.seq = 32;
  const TokenRows first = rows_of(file, config), again = rows_of(file, config);
  EXPECT_EQ(first.fingerprint, again.fingerprint);
  EXPECT_EQ(first.data_hash, again.data_hash);
  config.learn = "all";
  EXPECT_NE(rows_of(file, config).fingerprint, first.fingerprint);
  EXPECT_EQ(rows_of(file, config).data_hash, first.data_hash);
  config.learn = "answer";
  config.seq = 40;
  EXPECT_NE(rows_of(file, config).fingerprint, first.fingerprint);
  EXPECT_NE(rows_of(file, config, ByteTokenizer(false)).fingerprint, rows_of(file, config).fingerprint);
  config.limit = 10;
  config.pack = false;
  EXPECT_EQ(rows_of(file, config).rows(), 10);
}

TEST(Rows, SplitIsSeededAndWhole) {
  TestFolder folder;
  DataConfig config;
  config.seq = 32;
  config.pack = false;
  const TokenRows rows = rows_of(short_examples(folder, 40), config);
  const auto [rest, held] = split_rows(rows, 0.05, 3);
  EXPECT_EQ(held.rows(), 2);
  EXPECT_EQ(rest.rows(), 38);
  const auto [rest2, held2] = split_rows(rows, 0.05, 3);
  EXPECT_EQ(held.fingerprint, held2.fingerprint);
  EXPECT_NE(split_rows(rows, 0.05, 4).second.fingerprint, held.fingerprint);
  std::multiset<std::string> want, have;
  for (int64_t r = 0; r < rows.rows(); ++r) want.insert(row_text(rows, r));
  for (int64_t r = 0; r < rest.rows(); ++r) have.insert(row_text(rest, r));
  for (int64_t r = 0; r < held.rows(); ++r) have.insert(row_text(held, r));
  EXPECT_EQ(have, want);
}

TEST(Source, LabelsNeverCrossDocumentsAndFollowTheMask) {
  TestFolder folder;
  DataConfig config;
  config.seq = 64;
  const TokenRows rows = rows_of(short_examples(folder, 40), config);
  std::vector<int64_t> numbers;
  for (int64_t r = 0; r < rows.rows(); ++r) numbers.push_back(r);
  const Batch batch = make_batch(rows, numbers);
  const at::Tensor labels = batch.at("labels");
  int64_t seen = 0;
  for (int64_t r = 0; r < rows.rows(); ++r) {
    for (int64_t t = 0; t < labels.size(1); ++t) {
      const int here = rows.segments[r][t].item<int>();
      const bool inside = t + 1 < rows.seq() && here >= 0 && rows.segments[r][t + 1].item<int>() == here;
      const int64_t want = inside && rows.learn[r][t + 1].item<int>() ? rows.ids[r][t + 1].item<int>() : -100;
      ASSERT_EQ(labels[r][t].item<int64_t>(), want) << r << "," << t;
      seen += want >= 0;
    }
  }
  EXPECT_EQ(seen, rows.learned_tokens());
  EXPECT_EQ(batch.at("ids").scalar_type(), at::kLong);
  EXPECT_EQ(batch.at("segments").scalar_type(), at::kInt);
  EXPECT_THROW(batch.at("teacher"), Error);
}

bool same(const Batch& a, const Batch& b) {
  if (a.columns.size() != b.columns.size()) return false;
  for (const auto& [name, tensor] : a.columns)
    if (!b.has(name) || !tensor.equal(b.at(name))) return false;
  return true;
}

TEST(Source, SeekGivesTheSameBatchesAgain) {
  TestFolder folder;
  DataConfig config;
  config.seq = 32;
  config.pack = false;
  const TokenRows rows = rows_of(short_examples(folder, 37), config);
  for (const int64_t ranks : {1, 3}) {
    RowSource source(rows, 6, 11, true, ranks - 1, ranks);
    std::vector<Batch> batches(20);
    for (auto& batch : batches) source.next(batch);
    EXPECT_EQ(source.position(), 20);
    for (const int64_t position : {13, 0, 7, 19}) {
      RowSource fresh(rows, 6, 11, true, ranks - 1, ranks);
      Batch batch;
      source.seek(position);
      source.next(batch);
      EXPECT_TRUE(same(batch, batches[static_cast<size_t>(position)])) << position;
      EXPECT_EQ(source.position(), position + 1);
      fresh.seek(position);
      fresh.next(batch);
      EXPECT_TRUE(same(batch, batches[static_cast<size_t>(position)])) << position;
    }
  }
}

TEST(Source, EveryEpochHoldsEveryRowOnceInAnotherOrder) {
  TestFolder folder;
  DataConfig config;
  config.seq = 32;
  config.pack = false;
  const TokenRows rows = rows_of(short_examples(folder, 36), config);
  std::vector<std::vector<int64_t>> epochs(3);
  std::vector<RowSource> ranks;
  for (int64_t r = 0; r < 2; ++r) ranks.emplace_back(rows, 6, 5, true, r, 2);
  EXPECT_EQ(ranks[0].batches_per_epoch(), 6);
  for (auto& epoch : epochs) {
    for (int i = 0; i < 6; ++i)
      for (auto& source : ranks) {
        Batch batch;
        source.next(batch);
        for (int64_t b = 0; b < 3; ++b) epoch.push_back(batch.at("rows")[b].item<int64_t>());
      }
    EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 36u);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  RowSource plain(rows, 6, 5, false);
  Batch batch;
  plain.next(batch);
  EXPECT_TRUE(batch.at("rows").equal(at::arange(6)));
}

TEST(Source, BatchesAreCutToTheirLongestRow) {
  TestFolder folder;
  write_file(folder / "a.jsonl", "{\"prompt\": \"ab\", \"answer\": \"c\"}\n{\"prompt\": \"abcdefghijk\", \"answer\": \"c\"}\n");
  DataConfig config;
  config.seq = 15;
  config.pack = false;
  const TokenRows rows = rows_of(folder / "a.jsonl", config);
  EXPECT_EQ(make_batch(rows, {0}).at("ids").size(1), 8);
  EXPECT_EQ(make_batch(rows, {1, 0}).at("ids").size(1), 15);
  EXPECT_THROW(make_batch(rows, {2}), Error);
}

}  // namespace
}  // namespace attar
