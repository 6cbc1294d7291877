#include "teacher/codec.h"

#include <cmath>

#include "base/check.h"
#include "cache_cases.h"

namespace attar {
namespace {

EncodedRows encoded(const TeacherCodec& codec, const at::Tensor& logits, double temperature = 1, int64_t first_number = 0) {
  EncodedRows rows;
  std::vector<int64_t> row(logits.size(0), 5), numbers;
  for (int64_t p = 0; p < logits.size(0); ++p) numbers.push_back(first_number + p);
  codec.encode(logits.clone(), temperature, at::zeros({logits.size(0)}, at::kLong), row, numbers, rows);
  rows.row_begin.push_back(rows.positions());
  return rows;
}

TEST(Codec, IndependentDrawsAreUnbiased) {
  // The mean over many positions of one distribution: each share within 5 deviations of its probability, and all of them by a chi-square.
  const int64_t vocab = 300, count = 4000;
  CacheIdentity identity = cache_identity("sampled", vocab);
  identity.codec.draws = "independent";
  const TeacherCodec codec(identity);
  const at::Tensor one = teacher_logits(1, vocab, 4), probs = one.to(at::kDouble).softmax(-1)[0];
  const EncodedRows rows = encoded(codec, one.expand({count, vocab}).contiguous());
  std::vector<double> found(vocab);
  for (size_t e = 0; e < rows.ids.size(); ++e) found[rows.ids[e]] += rows.counts[e];
  const double draws = 50.0 * count;
  double chi = 0, cells = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    const double p = probs[v].item<double>(), expected = draws * p;
    EXPECT_LT(std::abs(found[v] - expected), 5 * std::sqrt(draws * p * (1 - p)) + 3) << v;
    if (expected < 10) continue;
    chi += (found[v] - expected) * (found[v] - expected) / expected;
    ++cells;
  }
  EXPECT_GT(cells, 100);
  EXPECT_LT(std::abs(chi - cells), 5 * std::sqrt(2 * cells));
}

TEST(Codec, SystematicDrawsAreUnbiasedAndOfTheLeastVariance) {
  // An id is met floor(N p) or ceil(N p) times, so a count's variance is f (1 - f), f the fraction of N p: means and variances over many positions.
  const int64_t vocab = 300, count = 4000;
  const TeacherCodec codec(cache_identity("sampled", vocab));
  const at::Tensor one = teacher_logits(1, vocab, 4), probs = one.to(at::kDouble).softmax(-1)[0];
  const EncodedRows rows = encoded(codec, one.expand({count, vocab}).contiguous());
  std::vector<double> sum(vocab), squares(vocab);
  for (size_t e = 0; e < rows.ids.size(); ++e) sum[rows.ids[e]] += rows.counts[e], squares[rows.ids[e]] += rows.counts[e] * rows.counts[e];
  double chi = 0, cells = 0, noise = 0, independent = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    const double p = probs[v].item<double>(), expected = 50 * p, whole = std::floor(expected), variance = (expected - whole) * (whole + 1 - expected);
    const double mean = sum[v] / count, deviation = std::sqrt(variance / count);
    EXPECT_NEAR(mean, expected, 5 * deviation + 3.0 / count) << v;
    noise += squares[v] / count - mean * mean;
    independent += 50 * p * (1 - p);
    if (count * variance < 10) continue;
    chi += (mean - expected) * (mean - expected) / (deviation * deviation);
    ++cells;
  }
  EXPECT_GT(cells, 100);
  EXPECT_LT(chi, cells + 5 * std::sqrt(2 * cells));
  EXPECT_LT(noise, 0.7 * independent);
  for (size_t e = 0; e < rows.ids.size(); ++e) {
    const double expected = 50 * probs[rows.ids[e]].item<double>();
    ASSERT_LT(std::abs(rows.counts[e] - expected), 1 + 1e-4) << rows.ids[e];
  }
}

TEST(Codec, ExcessOfDrawsIsWhatAFitToThemLoses) {
  // The simplest student: one distribution of 12 ids, 11 free parameters, fitted to the draws of 100 positions. Its KL from the teacher's is chi-square
  // with 11 degrees over 2 x 100 x 50; mean over 300 fits.
  const int64_t vocab = 12, positions = 100, fits = 300;
  CacheIdentity identity = cache_identity("sampled", vocab);
  identity.codec.draws = "independent";
  const TeacherCodec codec(identity);
  const at::Tensor one = teacher_logits(1, vocab, 4) / 3, probs = one.to(at::kDouble).softmax(-1)[0];
  double sum = 0;
  for (int64_t fit = 0; fit < fits; ++fit) {
    const EncodedRows rows = encoded(codec, one.expand({positions, vocab}).contiguous(), 1, fit * positions);
    std::vector<double> share(vocab);
    for (size_t e = 0; e < rows.ids.size(); ++e) share[rows.ids[e]] += rows.counts[e] / (50.0 * positions);
    for (int64_t v = 0; v < vocab; ++v) sum += probs[v].item<double>() * std::log(probs[v].item<double>() / share[v]);
  }
  const double expected = excess_of_draws(vocab - 1, positions, 50);
  EXPECT_DOUBLE_EQ(expected, 11.0 / 10000);
  EXPECT_NEAR(sum / fits, expected, 4 * expected * std::sqrt(2.0 / 11 / fits));
}

TEST(Codec, DrawsBelongToSeedRowAndPosition) {
  const TeacherCodec codec(cache_identity("sampled", 200));
  const at::Tensor logits = teacher_logits(10, 200, 6);
  const EncodedRows whole = encoded(codec, logits), late = encoded(codec, logits.narrow(0, 4, 6), 1, 4);
  EXPECT_TRUE(std::equal(late.distinct.begin(), late.distinct.end(), whole.distinct.begin() + 4));
  EXPECT_TRUE(std::equal(late.ids.rbegin(), late.ids.rend(), whole.ids.rbegin()));
  CacheIdentity other = cache_identity("sampled", 200);
  other.seed = 12;
  EXPECT_NE(encoded(TeacherCodec(other), logits).ids, whole.ids);
  const EncodedRows same_logits = encoded(codec, logits.narrow(0, 0, 1).expand({10, 200}).contiguous());
  EXPECT_NE(std::vector<int32_t>(same_logits.ids.begin(), same_logits.ids.begin() + same_logits.distinct[0]),
            std::vector<int32_t>(same_logits.ids.begin() + same_logits.distinct[0],
                                 same_logits.ids.begin() + same_logits.distinct[0] + same_logits.distinct[1]));
}

TEST(Codec, CertainTeacher) {
  const TeacherCodec codec(cache_identity("sampled", 130));
  for (const int64_t id : {0, 63, 64, 129}) {
    at::Tensor logits = at::full({2, 130}, -200.0, at::kFloat);
    logits.select(1, id).fill_(50);
    const EncodedRows rows = encoded(codec, logits);
    EXPECT_EQ(rows.ids, (std::vector<int32_t>(2, static_cast<int32_t>(id))));
    EXPECT_EQ(rows.counts, (std::vector<uint8_t>{50, 50}));
    EXPECT_EQ(rows.top_id[0], id);
    EXPECT_EQ(from_half_bits(rows.entropy[0]), 0);
  }
}

TEST(Codec, FactsOfEachPosition) {
  for (const std::string kind : {"sampled", "top_k", "full"}) {
    const TeacherCodec codec(cache_identity(kind, 100));
    const at::Tensor logits = teacher_logits(5, 100, 7), log_probs = (logits.to(at::kDouble) / 2).log_softmax(-1);
    const EncodedRows rows = encoded(codec, logits, 2);
    for (int64_t p = 0; p < 5; ++p) {
      EXPECT_NEAR(from_half_bits(rows.label_log_prob[p]), log_probs[p][0].item<double>(), 6e-3);
      EXPECT_NEAR(from_half_bits(rows.entropy[p]), -(log_probs[p].exp() * log_probs[p]).sum().item<double>(), 3e-3);
      EXPECT_EQ(rows.top_id[p], logits[p].argmax().item<int64_t>());
      if (kind == "full") {
        for (int64_t v = 0; v < 100; ++v) EXPECT_NEAR(from_half_bits(rows.log_probs[p * 100 + v]), log_probs[p][v].item<double>(), 8e-3);
      }
    }
  }
}

TEST(Codec, TopKKeepsTheTail) {
  const TeacherCodec codec(cache_identity("top_k", 100));
  const at::Tensor logits = teacher_logits(5, 100, 8), probs = logits.to(at::kDouble).softmax(-1);
  const EncodedRows rows = encoded(codec, logits);
  for (int64_t p = 0; p < 5; ++p) {
    int32_t ids[6];
    float kept[6];
    const float tail = codec.decode(rows, p, ids, kept);
    double sum = tail;
    for (int i = 0; i < 6; ++i) {
      EXPECT_NEAR(kept[i], probs[p][ids[i]].item<double>(), 2e-3);
      EXPECT_LE(kept[i], kept[i > 0 ? i - 1 : 0]);
      sum += kept[i];
    }
    EXPECT_NEAR(sum, 1, 1e-6);
    EXPECT_NEAR(tail, 1 - std::get<0>(probs[p].topk(6)).sum().item<double>(), 2e-3);
  }
}

TEST(Codec, ArraysComeBack) {
  for (const int64_t vocab : {100, 65536, 70000, 300000}) {
    for (const std::string kind : {"sampled", "top_k", "full"}) {
      if (kind == "full" && vocab > 100) continue;
      SCOPED_TRACE(kind + " " + std::to_string(vocab));
      const TeacherCodec codec(cache_identity(kind, vocab));
      const EncodedRows rows = encoded(codec, teacher_logits(4, vocab, 9));
      const auto arrays = codec.pack(rows);
      const EncodedRows back = codec.unpack(arrays, 1, "case");
      EXPECT_EQ(back.ids, rows.ids);
      EXPECT_EQ(back.counts, rows.counts);
      EXPECT_EQ(back.log_probs, rows.log_probs);
      EXPECT_EQ(back.tail, rows.tail);
      EXPECT_EQ(back.top_id, rows.top_id);
      EXPECT_EQ(back.entropy, rows.entropy);
      EXPECT_EQ(back.label_log_prob, rows.label_log_prob);
      EXPECT_EQ(back.row_begin, rows.row_begin);
      if (kind == "sampled") {
        size_t bytes = 0;
        for (const auto& [name, array] : arrays) bytes += name == "row_begin" ? 0 : array.bytes.size();
        const size_t each = vocab == 300000 ? 5 : 3, facts = vocab > 65536 ? 9 : 7;
        EXPECT_EQ(bytes, rows.ids.size() * each + 4 * facts);
      }
    }
  }
}

TEST(Codec, RefusesArraysThatLie) {
  const TeacherCodec codec(cache_identity("sampled", 100));
  const auto good = codec.pack(encoded(codec, teacher_logits(4, 100, 9)));
  const auto refused = [&](const std::string& name, size_t offset, uint8_t value) {
    auto bad = good;
    bad.at(name).bytes.at(offset) = value;
    EXPECT_THROW(codec.unpack(bad, 1, "case"), Error) << name;
  };
  refused("ids", 1, 200);
  refused("counts", 0, 0);
  refused("distinct", 0, 255);
  refused("row_begin", 0, 1);
  refused("row_begin", 8, 200);
  refused("top_id", 1, 1);
  auto bad = good;
  bad.erase("counts");
  EXPECT_THROW(codec.unpack(bad, 1, "case"), Error);
  EXPECT_THROW(codec.unpack(good, 2, "case"), Error);
}

TEST(Codec, RefusesNumbersOutOfRange) {
  CacheIdentity identity = cache_identity("sampled", 100);
  identity.codec.samples = 256;
  EXPECT_THROW(TeacherCodec{identity}, Error);
  identity = cache_identity("sampled", 100);
  identity.codec.draws = "sistematic";
  EXPECT_THROW(TeacherCodec{identity}, Error);
  identity = cache_identity("top_k", 5);
  EXPECT_THROW(TeacherCodec{identity}, Error);
  identity = cache_identity("topk", 100);
  EXPECT_THROW(TeacherCodec{identity}, Error);
}

}  // namespace
}  // namespace attar
