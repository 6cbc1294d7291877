#include <cmath>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "data_path.h"
#include "eval/fidelity.h"
#include "eval/tiny_decoder.h"

namespace attar {
namespace {

at::Tensor random_logits(int64_t n, int64_t vocab, uint64_t seed, double scale) {
  at::Tensor out = at::empty({n, vocab}, at::kFloat);
  Rng rng(seed, stream_of("logits"));
  for (int64_t i = 0; i < out.numel(); ++i) out.data_ptr<float>()[i] = static_cast<float>(scale * rng.normal());
  return out;
}

TEST(LogitRows, EqualTheSpecification) {
  for (const int64_t vocab : {1, 5, 127, 128, 129, 1000, 4099}) {
    const at::Tensor wide = random_logits(9, vocab + 3, 1, 4), base = wide.slice(1, 0, vocab), model = base + 0.3 * random_logits(9, vocab, 2, 1);
    at::Tensor targets = at::arange(9, at::kLong) % vocab;
    const auto fast = compare_rows(base, model, targets), plain = compare_rows_plain(base, model, targets);
    const auto alone = score_rows(model, targets);
    for (size_t r = 0; r < fast.size(); ++r) {
      EXPECT_NEAR(fast[r].kl, plain[r].kl, 1e-12);
      EXPECT_NEAR(fast[r].model.nll, plain[r].model.nll, 1e-12);
      EXPECT_NEAR(fast[r].base.nll, plain[r].base.nll, 1e-12);
      EXPECT_NEAR(fast[r].base.confidence, plain[r].base.confidence, 1e-13);
      EXPECT_EQ(fast[r].base.best, plain[r].base.best);
      EXPECT_EQ(fast[r].model.best, plain[r].model.best);
      EXPECT_EQ(fast[r].model.right, plain[r].model.right);
      EXPECT_NEAR(alone[r].nll, plain[r].model.nll, 1e-12);
      EXPECT_EQ(alone[r].best, plain[r].model.best);
    }
  }
}

TEST(LogitRows, NearlyEqualRowsKeepTheirDistance) {
  // A KL of about 1e-9: a difference of sums would lose it in float32.
  const at::Tensor base = random_logits(4, 32000, 3, 2), model = base + 4e-5 * random_logits(4, 32000, 4, 1), targets = at::arange(4, at::kLong);
  const auto fast = compare_rows(base, model, targets), plain = compare_rows_plain(base, model, targets);
  for (size_t r = 0; r < 4; ++r) {
    EXPECT_GT(plain[r].kl, 1e-10);
    EXPECT_LT(plain[r].kl, 1e-8);
    EXPECT_NEAR(fast[r].kl, plain[r].kl, 1e-13);
  }
  for (const ComparedRow& row : compare_rows(base, base, targets)) EXPECT_EQ(row.kl, 0);
}

TEST(LogitRows, ExtremesAndFaults) {
  at::Tensor logits = at::full({2, 40}, -3e4f, at::kFloat);
  logits[0][7] = 3e4f;
  const auto rows = score_rows(logits, at::tensor({7, 3}, at::kLong));
  EXPECT_EQ(rows[0].nll, 0);
  EXPECT_EQ(rows[0].confidence, 1);
  EXPECT_TRUE(rows[0].right);
  EXPECT_NEAR(rows[1].nll, std::log(40.0), 1e-11);  // logits of 3e4 leave no more digits
  EXPECT_EQ(rows[1].best, 0);
  logits[1][5] = NAN;
  EXPECT_FALSE(std::isfinite(score_rows(logits, at::tensor({7, 3}, at::kLong))[1].nll));
  EXPECT_THROW(score_rows(logits, at::tensor({7, 40}, at::kLong)), Error);
  EXPECT_THROW(score_rows(logits, at::tensor({7}, at::kLong)), Error);
  EXPECT_THROW(compare_rows(logits, logits.slice(1, 0, 39), at::tensor({7, 3}, at::kLong)), Error);
}

TEST(Running, MeansAreThoseOfAllNumbers) {
  Rng rng(1);
  RunningMean running;
  std::vector<double> all;
  for (int i = 0; i < 5000; ++i) running.add(all.emplace_back(1e6 + rng.normal()));
  const MeanError whole = mean_and_error(all);
  EXPECT_NEAR(running.result().mean, whole.mean, 1e-6);
  EXPECT_NEAR(running.result().error, whole.error, 1e-9);
  EXPECT_EQ(running.count(), 5000);
}

TEST(Running, PercentilesAreExactAndThenWithinATenthOfAPercent) {
  Rng rng(1);
  RunningPercentiles running;
  std::vector<double> all;
  const auto feed = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) running.add(all.emplace_back(i % 50 == 0 ? 0 : std::exp(4 * rng.normal() - 6)));
    std::sort(all.begin(), all.end());
  };
  feed(RunningPercentiles::kExact);
  for (const double share : {0.0, 0.01, 0.5, 0.9, 0.999, 1.0}) EXPECT_EQ(running.at(share), percentile(all, share));
  feed(200000);
  EXPECT_EQ(running.max(), all.back());
  EXPECT_EQ(running.at(0.01), 0);
  for (const double share : {0.1, 0.5, 0.9, 0.99, 0.999}) EXPECT_NEAR(running.at(share), percentile(all, share), 2e-3 * percentile(all, share));
  EXPECT_LE(running.at(1), running.max());
}

/// Pieces of a text, of odd sizes; counts how much was asked for.
class GivenPieces : public TextPieces {
 public:
  explicit GivenPieces(std::string text) : text_(std::move(text)) {}
  bool next(std::string& piece) override {
    piece = text_.substr(at_, 997);
    at_ += piece.size();
    return !piece.empty();
  }
  void rewind() override { at_ = 0; }

 private:
  std::string text_;
  size_t at_ = 0;
};

std::vector<int32_t> all_ids(IdSource& source) {
  std::vector<int32_t> out;
  while (source.more(out)) {}
  return out;
}

std::string lines_of_text(size_t bytes) {
  Rng rng(8);
  std::string out = " begins with a space\n\n  ";
  while (out.size() < bytes) {
    for (uint64_t i = rng.below(9); i > 0; --i)
      out += (rng.below(2) ? " " : "  ") + std::string(1 + rng.below(7), static_cast<char>('a' + rng.below(26)));
    out += rng.below(4) ? "\n" : "\n \n\t x é\r\n";
  }
  return out;
}

TEST(StreamedIds, AreTheWholeTextsIds) {
  for (const char* name : {"tokenizers/llama2", "tokenizers/gpt2", "tokenizers/phi-2", "stories260K/tok512.model"}) {
    const auto place = test_data() / name;
    if (!std::filesystem::exists(place)) continue;
    const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(place);
    const std::string text = lines_of_text(60000);
    const auto source = streamed_ids(std::make_unique<GivenPieces>(text), tokenizer, 4096);
    const auto whole = text_ids(text, *tokenizer);
    EXPECT_TRUE(all_ids(*source) == whole) << name;
    source->rewind();
    EXPECT_TRUE(all_ids(*source) == whole) << name;
  }
  const auto bytes = std::make_shared<const ByteTokenizer>();
  for (const std::string& text : {std::string(), std::string("\n"), std::string(9000, 'x'), lines_of_text(9000)}) {
    const auto source = streamed_ids(std::make_unique<GivenPieces>(text), bytes, 1000);
    EXPECT_EQ(all_ids(*source), text_ids(text, *bytes)) << text.size();
  }
}

TEST(StreamedIds, FilesComeAsTheyLie) {
  const TestFolder folder;
  const std::string text = lines_of_text(200000);
  write_file(folder / "a.txt", text);
  std::string rows;
  for (const char* line : {"one", "two\\nthree", ""}) rows += std::string("{\"text\": \"") + line + "\"}\n";
  write_file(folder / "a.jsonl", rows);
  const auto read = [](const fs::path& file) {
    const auto pieces = file_text(file);
    std::string out, piece;
    while (pieces->next(piece)) out += piece;
    pieces->rewind();
    std::string again;
    while (pieces->next(piece)) again += piece;
    EXPECT_EQ(again, out);
    return out;
  };
  EXPECT_EQ(read(folder / "a.txt"), text);
  EXPECT_EQ(read(folder / "a.jsonl"), "one\ntwo\nthree\n\n");
  EXPECT_THROW(file_text(folder / "missing.txt"), Error);
}

TEST(StreamedIds, ChunksOfAStreamAreThoseOfItsIds) {
  const Decoder base = tiny_decoder(1), model = tiny_decoder(2);
  const auto tokenizer = std::make_shared<const ByteTokenizer>();
  const std::string text = lines_of_text(5000);
  for (const int64_t limit : {int64_t{0}, int64_t{1000}}) {
    auto whole = chunk_positions(text_ids(text, *tokenizer), 1, 64, limit, tokenizer.get());
    auto stream = chunk_positions(streamed_ids(std::make_unique<GivenPieces>(text), tokenizer, 500), 1, 64, limit, tokenizer.get());
    for (int pass = 0; pass < 2; ++pass) {
      const FidelityResult a = fidelity(base, model, *whole), b = fidelity(base, model, *stream);
      EXPECT_EQ(a.mean, b.mean);
      EXPECT_EQ(a.model.value, b.model.value);
      EXPECT_EQ(a.model.bytes, b.model.bytes);
      EXPECT_EQ(a.protocol, b.protocol);
      EXPECT_EQ(stream->count(), whole->count());
    }
  }
  EXPECT_THROW(chunk_positions(streamed_ids(std::make_unique<GivenPieces>(std::string(100, 'a')), tokenizer), 1, 64), Error);
}

}  // namespace
}  // namespace attar
