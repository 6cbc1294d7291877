#include "eval/token_routing.h"

#include <cmath>

#include "data_path.h"
#include "eval/tiny_decoder.h"
#include "teacher/capture.h"

namespace attar {
namespace {

constexpr int64_t kVocab = 61;
constexpr double kTemperature = 0.7;

/// Five rows of 12 tokens, the third with two documents.
TokenRows routing_rows() {
  TokenRows rows;
  rows.ids = at::empty({5, 12}, at::kInt);
  Rng rng(3, 1);
  for (int64_t i = 0; i < rows.ids.numel(); ++i) rows.ids.data_ptr<int32_t>()[i] = static_cast<int32_t>(rng.below(kVocab));
  rows.learn = at::ones({5, 12}, at::kByte);
  rows.segments = at::zeros({5, 12}, at::kInt);
  rows.segments[2].slice(0, 7).fill_(1);
  rows.lengths = at::full({5}, 12, at::kInt);
  rows.data_hash = "data", rows.fingerprint = "rows";
  return rows;
}

CacheIdentity routing_identity(const std::string& codec) {
  CacheIdentity identity;
  identity.teacher = "teacher", identity.tokenizer = "tokenizer", identity.data = "data", identity.rows = "rows";
  identity.vocab = kVocab, identity.temperature = kTemperature, identity.seed = 5;
  identity.codec.kind = codec, identity.codec.k = 9, identity.codec.samples = 200;
  return identity;
}

struct PlainPosition {
  int64_t row, place;
  std::vector<double> p, q;
};

/// Both distributions at every learned position, by whole tensors and plain sums.
std::vector<PlainPosition> plain_positions(const Decoder& teacher, const Decoder& student, const TokenRows& rows) {
  std::vector<PlainPosition> out;
  for (int64_t r = 0; r < rows.rows(); ++r) {
    const TokenBatch tokens{rows.ids.slice(0, r, r + 1).to(at::kLong), rows.segments.slice(0, r, r + 1), {}, {}};
    const auto shares = [&](const Decoder& model) {
      return at::softmax(model.logits(model.hidden(tokens))[0].to(at::kDouble) / kTemperature, 1).contiguous();
    };
    const at::Tensor p = shares(teacher), q = shares(student);
    for (int64_t t = 0; t + 1 < rows.seq(); ++t) {
      if (rows.segments[r][t].item<int>() != rows.segments[r][t + 1].item<int>()) continue;
      const double *from = p[t].const_data_ptr<double>(), *to = q[t].const_data_ptr<double>();
      out.push_back({r, t, {from, from + kVocab}, {to, to + kVocab}});
    }
  }
  return out;
}

double overlap(const PlainPosition& position) {
  double sum = 0;
  for (size_t v = 0; v < position.p.size(); ++v) sum += std::min(position.p[v], position.q[v]);
  return sum;
}

int64_t likeliest(const std::vector<double>& of) { return std::max_element(of.begin(), of.end()) - of.begin(); }

double plain_kl(const std::vector<PlainPosition>& positions) {
  double sum = 0;
  for (const PlainPosition& at : positions)
    for (size_t v = 0; v < at.p.size(); ++v) sum += at.p[v] * std::log(at.p[v] / at.q[v]);
  return sum / static_cast<double>(positions.size());
}

TokenRouting routed(const Decoder& teacher, const Decoder& student, const std::string& codec, double cost_ratio = 0, int64_t draft = 4) {
  const at::NoGradGuard no_grad;
  const TestFolder folder;
  const TokenRows rows = routing_rows();
  capture(teacher, rows, routing_identity(codec), 2, 3, folder.path());
  TokenRoutingOptions options;
  options.batch = 2, options.draft = draft, options.cost_ratio = cost_ratio;
  return token_routing(student, CacheReader(folder.path()), rows, options);
}

struct RoutingPair {
  Decoder teacher = tiny_decoder(1, 64, kVocab), student = tiny_decoder(1, 64, kVocab);
  RoutingPair() {
    // A student that is near its teacher, not equal to it.
    at::Tensor noise = at::empty_like(student.weights().at("model.embed_tokens.weight"));
    Rng rng(9, 2);
    for (int64_t i = 0; i < noise.numel(); ++i) noise.data_ptr<float>()[i] = static_cast<float>(0.08 * rng.normal());
    student.weights().at("model.embed_tokens.weight").add_(noise);
  }
};

TEST(TokenRouting, AFullCacheGivesWhatPlainSumsGive) {
  const RoutingPair pair;
  const TokenRouting found = routed(pair.teacher, pair.student, "full", 0.05);
  const auto positions = plain_positions(pair.teacher, pair.student, routing_rows());
  ASSERT_EQ(found.tokens, static_cast<int64_t>(positions.size()));
  ASSERT_EQ(found.tokens, 5 * 11 - 1);
  double accepted = 0, same = 0, kept = 0, kept_same = 0, kept_accepted = 0;
  for (const PlainPosition& at : positions) {
    const bool alike = likeliest(at.p) == likeliest(at.q);
    accepted += overlap(at), same += alike;
    if (at.q[static_cast<size_t>(likeliest(at.q))] >= 0.4) kept += 1, kept_same += alike, kept_accepted += overlap(at);
  }
  const double n = static_cast<double>(positions.size());
  // The cache keeps log-probabilities in half precision.
  EXPECT_NEAR(found.acceptance.mean, accepted / n, 1e-3);
  EXPECT_EQ(found.acceptance.mean, found.acceptance_at_most);
  EXPECT_NEAR(found.kl.mean, plain_kl(positions), 2e-3);
  EXPECT_GT(found.kl.mean, 0.01);
  EXPECT_NEAR(found.same_top.mean, same / n, 1e-12);
  const KeptPoint& point = found.kept.at(4);
  ASSERT_EQ(point.at_least, 0.4);
  EXPECT_GT(same, 0);
  EXPECT_GT(kept, 0);
  EXPECT_LT(kept, n);
  EXPECT_DOUBLE_EQ(point.kept, kept / n);
  EXPECT_DOUBLE_EQ(*point.same_top, kept_same / kept);
  EXPECT_NEAR(*point.acceptance, kept_accepted / kept, 1e-3);
  EXPECT_DOUBLE_EQ(point.same_top_of_all, (kept_same + n - kept) / n);
  EXPECT_DOUBLE_EQ(*point.cost, 0.05 + 1 - kept / n);
  EXPECT_DOUBLE_EQ(found.kept[0].kept, 1);
}

TEST(TokenRouting, DraftsAreCountedAlongEachDocument) {
  const RoutingPair pair;
  const TokenRouting found = routed(pair.teacher, pair.student, "full", 0.05);
  const auto positions = plain_positions(pair.teacher, pair.student, routing_rows());
  // Drafts of three: 1 + a1 + a1 a2 + a1 a2 a3 from every place that three positions of one document follow.
  double sum = 0, count = 0;
  for (size_t i = 0; i + 2 < positions.size(); ++i) {
    if (positions[i + 2].row != positions[i].row || positions[i + 2].place != positions[i].place + 2) continue;
    const double a = overlap(positions[i]), b = overlap(positions[i + 1]), c = overlap(positions[i + 2]);
    sum += 1 + a + a * b + a * b * c, count += 1;
  }
  ASSERT_EQ(count, 4 * 9 + 4 + 2);  // of 11 positions, of 6 and of 4
  const DraftPoint& third = found.drafts.at(2);
  EXPECT_EQ(third.tokens, 3);
  EXPECT_NEAR(*third.per_call_in_text, sum / count, 2e-3);
  const double a = found.acceptance.mean;
  EXPECT_NEAR(third.per_call, (1 - std::pow(a, 4)) / (1 - a), 1e-12);
  EXPECT_NEAR(*third.speed_up, *third.per_call_in_text / (1 + 3 * 0.05), 1e-12);
  // No document is so long, and no cost is known: what cannot be said is not.
  const TokenRouting longer = routed(pair.teacher, pair.student, "full", 0, 12);
  EXPECT_TRUE(longer.drafts.at(10).per_call_in_text);
  EXPECT_FALSE(longer.drafts.at(11).per_call_in_text);
  EXPECT_FALSE(longer.drafts.at(11).speed_up);
  EXPECT_TRUE(longer.to_json()["drafts"][11]["speed_up"].is_null());
}

TEST(TokenRouting, ATopKCacheBoundsWhatItDropped) {
  const RoutingPair pair;
  const TokenRouting found = routed(pair.teacher, pair.student, "top_k"), full = routed(pair.teacher, pair.student, "full");
  EXPECT_LT(found.acceptance.mean, full.acceptance.mean + 1e-3);
  EXPECT_GT(found.acceptance_at_most, full.acceptance.mean - 1e-3);
  EXPECT_GT(found.acceptance_at_most, found.acceptance.mean);
  EXPECT_LT(found.kl.mean, full.kl.mean + 1e-3);
  EXPECT_NEAR(found.same_top.mean, full.same_top.mean, 1e-12);
  double low = 0, kl = 0;
  const auto positions = plain_positions(pair.teacher, pair.student, routing_rows());
  for (const PlainPosition& at : positions) {
    std::vector<size_t> order(at.p.size());
    for (size_t v = 0; v < order.size(); ++v) order[v] = v;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return at.p[a] > at.p[b]; });
    double p_rest = 1, q_rest = 1;
    for (size_t i = 0; i < 9; ++i) {
      const double p = at.p[order[i]], q = at.q[order[i]];
      low += std::min(p, q), kl += p * std::log(p / q), p_rest -= p, q_rest -= q;
    }
    kl += p_rest * std::log(p_rest / q_rest);
  }
  const double n = static_cast<double>(positions.size());
  EXPECT_NEAR(found.acceptance.mean, low / n, 1e-3);
  EXPECT_NEAR(found.kl.mean, kl / n, 2e-3);
}

TEST(TokenRouting, ASampledCacheGivesAnUnbiasedKlAndNothingElse) {
  const RoutingPair pair;
  const TokenRouting found = routed(pair.teacher, pair.student, "sampled");
  EXPECT_FALSE(found.distributions);
  EXPECT_TRUE(found.kept.empty());
  // Drawn numbers: equal to the truth but for their own error.
  const double truth = plain_kl(plain_positions(pair.teacher, pair.student, routing_rows()));
  EXPECT_LT(std::abs(found.kl.mean - truth), 4 * found.kl.error);
  EXPECT_GT(found.kl.error, 0);
  const Json said = found.to_json();
  EXPECT_NE(said["kl"]["is"].get<std::string>().find("unbiased"), std::string::npos);
  EXPECT_FALSE(said.contains("acceptance"));
  EXPECT_TRUE(said.contains("note"));
}

TEST(TokenRouting, AStudentThatIsItsTeacherKeepsAll) {
  const Decoder teacher = tiny_decoder(1, 64, kVocab);
  const TokenRouting found = routed(teacher, teacher, "full", 0.1);
  EXPECT_NEAR(found.acceptance.mean, 1, 1e-3);
  EXPECT_NEAR(found.kl.mean, 0, 1e-4);
  EXPECT_NEAR(found.same_top.mean, 1, 1e-12);
  EXPECT_NEAR(found.drafts.at(3).per_call, 5, 0.02);
}

TEST(TokenRouting, OtherRowsAndOddOptionsAreRefused) {
  const Decoder teacher = tiny_decoder(1, 64, kVocab);
  const TestFolder folder;
  const TokenRows rows = routing_rows();
  capture(teacher, rows, routing_identity("full"), 2, 3, folder.path());
  const CacheReader cache(folder.path());
  TokenRoutingOptions options;
  options.draft = 0;
  EXPECT_THROW(token_routing(teacher, cache, rows, options), Error);
  options.draft = 4, options.cost_ratio = -1;
  EXPECT_THROW(token_routing(teacher, cache, rows, options), Error);
  options.cost_ratio = 0;
  TokenRows fewer = rows;
  fewer.ids = rows.ids.slice(0, 0, 4), fewer.learn = rows.learn.slice(0, 0, 4);
  EXPECT_THROW(token_routing(teacher, cache, fewer, options), Error);
  TokenRows silent = rows;
  silent.learn = at::zeros_like(rows.learn);
  EXPECT_THROW(token_routing(teacher, cache, silent, options), Error);
}

}  // namespace
}  // namespace attar
