#include <cmath>

#include "base/check.h"
#include "data_path.h"
#include "eval/fidelity.h"
#include "eval/tiny_decoder.h"

namespace attar {
namespace {

std::string some_text(size_t length, uint64_t seed = 4) {
  Rng rng(seed);
  std::string out;
  while (out.size() < length) out += static_cast<char>('a' + rng.below(20));
  return out;
}

/// Negative log-likelihoods of llama.cpp's protocol, one chunk and one position at a time.
std::vector<double> plain_nll(const Decoder& model, const std::vector<int32_t>& ids, int64_t ctx, bool bos) {
  const at::NoGradGuard no_grad;
  std::vector<double> out;
  for (int64_t begin = 0; begin + ctx <= static_cast<int64_t>(ids.size()); begin += ctx) {
    at::Tensor chunk = at::empty({1, ctx}, at::kLong);
    for (int64_t t = 0; t < ctx; ++t) chunk[0][t] = ids[static_cast<size_t>(begin + t)];
    if (bos) chunk[0][0] = 1;
    TokenBatch tokens;
    tokens.ids = chunk;
    const at::Tensor scores = at::log_softmax(model.logits(model.hidden(tokens))[0].to(at::kDouble), 1);
    for (int64_t t = ctx / 2; t < ctx - 1; ++t) out.push_back(-scores[t][chunk[0][t + 1].item<int64_t>()].item<double>());
  }
  return out;
}

TEST(Perplexity, EqualsThePlainLoop) {
  const Decoder model = tiny_decoder();
  const ByteTokenizer tokenizer;
  const auto ids = text_ids(some_text(700), tokenizer);
  EXPECT_EQ(ids[0], 1);
  for (const bool bos : {true, false}) {
    for (const int64_t ctx : {16, 31, 64}) {
      auto positions = chunk_positions(ids, bos ? std::optional<int32_t>(1) : std::nullopt, ctx);
      const auto plain = plain_nll(model, ids, ctx, bos);
      const PerplexityResult result = perplexity(model, *positions);
      double mean = 0, squares = 0;
      for (const double nll : plain) mean += nll / static_cast<double>(plain.size());
      for (const double nll : plain) squares += (nll - mean) * (nll - mean);
      const double n = static_cast<double>(plain.size());
      EXPECT_EQ(result.tokens, static_cast<int64_t>(plain.size()));
      EXPECT_EQ(result.tokens, positions->count());
      EXPECT_NEAR(result.nll, mean, 1e-5);
      EXPECT_NEAR(result.value, std::exp(mean), 1e-4 * std::exp(mean));
      EXPECT_NEAR(result.error, std::exp(mean) * std::sqrt(squares / (n - 1) / n), 1e-4 * result.error);
      EXPECT_EQ(result.protocol.find("BOS") != std::string::npos, bos);
    }
  }
}

TEST(Perplexity, TwoHundredFiftyFiveTokensAChunkOf512) {
  const auto ids = text_ids(some_text(1600), ByteTokenizer());
  EXPECT_EQ(chunk_positions(ids, 1, 512)->count(), 3 * 255);
  EXPECT_EQ(chunk_positions(ids, 1, 512, 1024)->count(), 2 * 255);
  EXPECT_THROW(chunk_positions(ids, 1, 512, 1023), Error);
  EXPECT_THROW(chunk_positions(ids, 1, 2), Error);
}

TEST(Perplexity, DamagedWeightsAreNamedNotAveraged) {
  Decoder model = tiny_decoder();
  model.weights().at("model.norm.weight").fill_(std::nan(""));
  auto positions = chunk_positions(text_ids(some_text(200), ByteTokenizer()), 1, 32);
  EXPECT_THROW(perplexity(model, *positions), Error);
}

TEST(Perplexity, RowsScoreExactlyTheLearnedTokens) {
  TestFolder folder;
  write_file(folder / "a.jsonl",
             "{\"prompt\": \"one two\", \"answer\": \"three\"}\n{\"prompt\": \"four\", \"answer\": \"five six\"}\n"
             "{\"prompt\": \"a\", \"answer\": \"b\"}\n");
  DataConfig config;
  config.seq = 30;
  const ByteTokenizer tokenizer;
  DocumentReader reader(folder / "a.jsonl", config);
  const TokenRows rows = make_rows(reader, tokenizer, config);
  ASSERT_EQ(rows.rows(), 2);
  const Decoder model = tiny_decoder();
  auto positions = row_positions(rows, 1);
  const PerplexityResult result = perplexity(model, *positions);
  double sum = 0;
  for (const auto& [prompt, answer] : std::vector<std::pair<std::string, std::string>>{{"one two", "three"}, {"four", "five six"}, {"a", "b"}}) {
    std::vector<int32_t> ids = tokenizer.encode(prompt + answer);
    ids.insert(ids.begin(), 1);
    ids.push_back(2);
    TokenBatch tokens;
    tokens.ids = at::tensor(ids, at::kInt).to(at::kLong).unsqueeze(0);
    const at::NoGradGuard no_grad;
    const at::Tensor scores = at::log_softmax(model.logits(model.hidden(tokens))[0].to(at::kDouble), 1);
    for (size_t t = prompt.size(); t + 1 < ids.size(); ++t) sum -= scores[static_cast<int64_t>(t)][ids[t + 1]].item<double>();
  }
  EXPECT_EQ(result.tokens, 6 + 9 + 2);
  EXPECT_NEAR(result.nll, sum / 17, 1e-5);
}

/// Log-probabilities (n, V) that follow a sequence of ids, by one forward pass.
at::Tensor plain_scores(const Decoder& model, const std::vector<int32_t>& ids) {
  const at::NoGradGuard no_grad;
  TokenBatch tokens;
  tokens.ids = at::tensor(ids, at::kInt).to(at::kLong).unsqueeze(0);
  return at::log_softmax(model.logits(model.hidden(tokens))[0].to(at::kDouble), 1);
}

TEST(Perplexity, WindowsScoreEveryTokenOnceAfterItsOwnPast) {
  const Decoder model = tiny_decoder();
  const ByteTokenizer tokenizer;
  const auto ids = text_ids(some_text(203), tokenizer);
  for (const bool bos : {true, false}) {
    const std::vector<int32_t> text(ids.begin() + (bos ? 1 : 0), ids.end());
    for (const auto& [ctx, stride] : std::vector<std::pair<int64_t, int64_t>>{{16, 4}, {16, 15}, {40, 7}, {300, 10}}) {
      auto positions = window_positions(ids, bos ? std::optional<int32_t>(1) : std::nullopt, ctx, stride);
      const int64_t room = ctx - (bos ? 1 : 0), length = static_cast<int64_t>(text.size());
      double sum = 0;
      int64_t count = 0;
      for (int64_t scored = bos ? 0 : 1, end = 0; scored < length; scored = end) {
        end = std::min(end == 0 ? room : end + stride, length);
        std::vector<int32_t> window(text.begin() + std::max<int64_t>(0, end - room), text.begin() + end);
        if (bos) window.insert(window.begin(), 1);
        const at::Tensor scores = plain_scores(model, window);
        for (int64_t t = scored; t < end; ++t, ++count) {
          const int64_t place = static_cast<int64_t>(window.size()) - (end - t);
          sum -= scores[place - 1][text[static_cast<size_t>(t)]].item<double>();
        }
      }
      const PerplexityResult result = perplexity(model, *positions);
      EXPECT_EQ(result.tokens, count);
      EXPECT_EQ(positions->count(), count);
      EXPECT_NEAR(result.nll, sum / static_cast<double>(count), 1e-5) << ctx << " " << stride << " " << bos;
    }
  }
  EXPECT_THROW(window_positions(ids, 1, 16, 16), Error);
  EXPECT_THROW(window_positions(ids, 1, 16, 0), Error);
  EXPECT_THROW(window_positions({5}, std::nullopt, 16, 4), Error);
}

TEST(Perplexity, BitsPerByteCountTheBytesOfTheScoredTokens) {
  const Decoder model = tiny_decoder();
  const ByteTokenizer tokenizer;  // a byte a token
  const auto ids = text_ids(some_text(300), tokenizer);
  auto chunks = chunk_positions(ids, 1, 32, 0, &tokenizer);
  auto windows = window_positions(ids, 1, 32, 8, 0, &tokenizer);
  EXPECT_EQ(chunks->bytes(), chunks->count());
  EXPECT_EQ(windows->bytes(), 300);
  const PerplexityResult result = perplexity(model, *chunks);
  EXPECT_NEAR(result.bits_per_byte(), result.nll / std::log(2.0), 1e-12);
  EXPECT_FALSE(perplexity(model, *chunk_positions(ids, 1, 32)).to_json().contains("bits_per_byte"));
}

TEST(Perplexity, CalibrationErrorIsTheGapOfFifteenBins) {
  // Confidence 0.9 (bin 13) right twice of four times, 0.5 (bin 7) right always.
  const at::Tensor p =
      at::tensor({0.9, 0.1, 0.0, 0.9, 0.1, 0.0, 0.9, 0.1, 0.0, 0.9, 0.1, 0.0, 0.25, 0.5, 0.25, 0.25, 0.5, 0.25}, at::kDouble).reshape({6, 3});
  TokenCalibration calibration;
  calibration.add(p.log(), at::tensor({0, 0, 1, 2, 1, 1}, at::kLong));
  EXPECT_NEAR(calibration.error(), (4 * std::abs(0.5 - 0.9) + 2 * std::abs(1 - 0.5)) / 6, 1e-12);
  const Decoder model = tiny_decoder();
  auto positions = chunk_positions(text_ids(some_text(300), ByteTokenizer()), 1, 32);
  const PerplexityResult alone = perplexity(model, *positions);
  EXPECT_GT(alone.ece, 0.01);
  EXPECT_NEAR(fidelity(tiny_decoder(2), model, *positions).model.ece, alone.ece, 1e-9);
}

TEST(Fidelity, AModelAgreesWithItselfEntirely) {
  const Decoder model = tiny_decoder();
  auto positions = chunk_positions(text_ids(some_text(400), ByteTokenizer()), 1, 32);
  const FidelityResult result = fidelity(model, model, *positions);
  EXPECT_EQ(result.mean, 0);
  EXPECT_EQ(result.max, 0);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.top1, 1);
  EXPECT_EQ(result.rms_delta_p, 0);
  EXPECT_EQ(result.delta_nll, 0);
}

TEST(Fidelity, EqualsThePlainFormulas) {
  const Decoder base = tiny_decoder(1), model = tiny_decoder(2);
  const auto ids = text_ids(some_text(300), ByteTokenizer());
  auto positions = chunk_positions(ids, 1, 50);
  const FidelityResult result = fidelity(base, model, *positions);
  const at::NoGradGuard no_grad;
  std::vector<double> kl;
  int64_t same = 0;
  double squares = 0;
  for (int64_t begin = 0; begin + 50 <= static_cast<int64_t>(ids.size()); begin += 50) {
    TokenBatch tokens;
    tokens.ids = at::tensor(std::vector<int32_t>(ids.begin() + begin, ids.begin() + begin + 50), at::kInt).to(at::kLong).unsqueeze(0);
    tokens.ids[0][0] = 1;
    const at::Tensor t = at::softmax(base.logits(base.hidden(tokens))[0].to(at::kDouble), 1);
    const at::Tensor s = at::softmax(model.logits(model.hidden(tokens))[0].to(at::kDouble), 1);
    for (int64_t at = 25; at < 49; ++at) {
      kl.push_back((t[at] * (t[at].log() - s[at].log())).sum().item<double>());
      same += t[at].argmax().item<int64_t>() == s[at].argmax().item<int64_t>();
      const int64_t next = tokens.ids[0][at + 1].item<int64_t>();
      squares += std::pow(s[at][next].item<double>() - t[at][next].item<double>(), 2);
    }
  }
  double mean = 0;
  for (const double k : kl) mean += k / static_cast<double>(kl.size());
  std::sort(kl.begin(), kl.end());
  EXPECT_GT(mean, 0.05);
  EXPECT_NEAR(result.mean, mean, 1e-5 * mean);
  EXPECT_NEAR(result.max, kl.back(), 1e-5 * kl.back());
  EXPECT_NEAR(result.p50, 0.5 * (kl[kl.size() / 2 - 1] + kl[kl.size() / 2]), 1e-5 * mean);
  EXPECT_LE(result.p50, result.p90);
  EXPECT_LE(result.p99, result.p999);
  EXPECT_NEAR(result.top1, static_cast<double>(same) / static_cast<double>(kl.size()), 1e-12);
  EXPECT_NEAR(result.rms_delta_p, std::sqrt(squares / static_cast<double>(kl.size())), 1e-6);
  EXPECT_NEAR(result.model.value, perplexity(model, *positions).value, 1e-9 * result.model.value);
  EXPECT_NEAR(result.base.nll + result.delta_nll, result.model.nll, 1e-12);
  const Json json = result.kld_json();
  for (const char* key : {"mean", "stderr", "p50", "p90", "p99", "p999", "max"}) EXPECT_TRUE(json.contains(key)) << key;
}

TEST(Fidelity, AnotherVocabularyIsCutOrRefused) {
  const Decoder base = tiny_decoder(1), padded = tiny_decoder(1, 128, 288), small = tiny_decoder(1, 128, 100);
  auto positions = chunk_positions(text_ids(some_text(200), ByteTokenizer()), 1, 32);
  EXPECT_GE(fidelity(base, padded, *positions).mean, 0);
  EXPECT_THROW(fidelity(base, small, *positions), Error);
}

}  // namespace
}  // namespace attar
