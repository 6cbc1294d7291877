#include "decide/route.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"
#include "decide/intervals.h"

namespace attar {
namespace {

struct Served {
  int64_t count = 0, wrong = 0;
};

Served served_at(double threshold, const std::vector<double>& sureness, const std::vector<double>& correct, const std::vector<size_t>& rows) {
  Served out;
  for (const size_t i : rows)
    if (sureness[i] >= threshold) ++out.count, out.wrong += correct[i] < 0.5;
  return out;
}

constexpr int64_t kQuantiles = 40;

double log_beta(double a, double b) { return std::lgamma(a) + std::lgamma(b) - std::lgamma(a + b); }

/// Probability that a test of `rows` fresh rows will pass, after `seen`: failures beta-binomial by Jeffreys' prior, at most as many as the test
/// allows.
double chance_to_pass(const Served& seen, int64_t rows, double error, double doubt) {
  int64_t allowed = -1, refused = rows;
  while (refused - allowed > 1) {
    const int64_t middle = (allowed + refused) / 2;
    (binomial_tail(middle, rows, error) <= doubt ? allowed : refused) = middle;
  }
  const double a = static_cast<double>(seen.wrong) + 0.5, b = static_cast<double>(seen.count - seen.wrong) + 0.5, n = static_cast<double>(rows);
  double chance = 0;
  for (int64_t k = 0; k <= allowed; ++k) {
    const double wrong = static_cast<double>(k);
    chance +=
        std::exp(std::lgamma(n + 1) - std::lgamma(wrong + 1) - std::lgamma(n - wrong + 1) + log_beta(a + wrong, b + n - wrong) - log_beta(a, b));
  }
  return chance;
}

/// Sureness at equal steps of the share of rows, surest first, every value once.
std::vector<double> quantiles_from_the_top(const std::vector<double>& sureness, const std::vector<size_t>& rows) {
  std::vector<double> sorted;
  for (const size_t i : rows) sorted.push_back(sureness[i]);
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  std::vector<double> out;
  for (int64_t step = 1; step <= kQuantiles; ++step) {
    const int64_t rank = (static_cast<int64_t>(sorted.size()) * step + kQuantiles - 1) / kQuantiles;
    const double value = sorted[static_cast<size_t>(std::max<int64_t>(rank, 1)) - 1];
    if (out.empty() || value < out.back()) out.push_back(value);
  }
  return out;
}

}  // namespace

std::vector<double> sureness_of(const Scores& scores, const std::string& score) {
  if (score == "learned")
    check(!scores.header.learned.is_null(), "score learned", "a score that was learned from " + scores.header.artifact + "'s hidden states", "none",
          "evaluate with learned_score: last");
  else
    check(scores.header.confident, "score " + score, "how sure " + scores.header.artifact + " was of each answer", "nothing: its server did not say",
          "take another small model, or a server that gives log-probabilities of what it writes");
  std::vector<double> out;
  out.reserve(scores.rows.size());
  for (const ExampleScore& row : scores.rows) {
    if (score == "max_probability") out.push_back(row.max_probability);
    else if (score == "margin") out.push_back(row.margin);
    else if (score == "entropy") out.push_back(-row.entropy);
    else if (score == "learned") out.push_back(row.learned);
    else fail("score", "max_probability, margin, entropy or learned", score);
  }
  return out;
}

Scores routing_rows(const Scores& scores, const std::string& score, const Scores& like) {
  if (score != "learned") return scores;
  Scores out{scores.header, {}, scores.file_sha256};
  for (size_t i = 0; i < scores.rows.size(); ++i)
    if (!like.rows.at(i).fitted) out.rows.push_back(scores.rows[i]);
  check(!out.rows.empty(), "examples of " + scores.header.artifact, "some that its learned score was not fitted on", "none");
  return out;
}

Threshold learn_then_test(const std::vector<double>& sureness, const std::vector<double>& correct, double error, double confidence, uint64_t seed) {
  check(sureness.size() == correct.size(), "sureness and correctness", "as many of each", str(sureness.size(), " and ", correct.size()));
  check(error > 0 && error < 1, "error", "above 0 and below 1", str(error));
  check(confidence > 0 && confidence < 1, "confidence", "above 0 and below 1", str(confidence));
  check(sureness.size() >= 20, "examples to choose a threshold by", "20 at least", str(sureness.size()));
  const int64_t n = static_cast<int64_t>(sureness.size());
  std::vector<size_t> design, test;
  const auto order = permutation(n, seed, stream_of("learn then test"));
  for (int64_t i = 0; i < n; ++i) (i < n / 5 ? design : test).push_back(static_cast<size_t>(order[static_cast<size_t>(i)]));
  Threshold out;
  out.design_rows = static_cast<int64_t>(design.size()), out.test_rows = static_cast<int64_t>(test.size());
  // The design rows alone choose what is tested and in what order, so that the tests' rows are fresh to it.
  const std::vector<double> candidates = quantiles_from_the_top(sureness, design);
  const double scale = static_cast<double>(test.size()) / static_cast<double>(design.size());
  size_t begin = 0;
  double best = -1;
  for (size_t c = 0; c < candidates.size(); ++c) {
    const Served served = served_at(candidates[c], sureness, correct, design);
    const double chance = chance_to_pass(served, std::llround(scale * static_cast<double>(served.count)), error, 1 - confidence);
    if (chance > best) best = chance, begin = c;
  }
  for (size_t c = begin; c < candidates.size(); ++c) {
    const Served served = served_at(candidates[c], sureness, correct, test);
    const double p = served.count == 0 ? 1 : binomial_tail(served.wrong, served.count, error);
    if (p > 1 - confidence) break;
    out.at_least = candidates[c];
    out.served = served.count, out.wrong = served.wrong, out.p_value = p;
    out.error_bound = binomial_upper_bound(served.wrong, served.count, confidence);
  }
  return out;
}

RouteCurve route_curve(const std::vector<double>& sureness, const std::vector<double>& small, const std::vector<double>& large) {
  check(!small.empty() && small.size() == large.size() && small.size() == sureness.size(), "examples of both models", "as many of each, one at least",
        str(small.size(), " and ", large.size()));
  const double n = static_cast<double>(small.size());
  RouteCurve out;
  out.small_quality = std::accumulate(small.begin(), small.end(), 0.0) / n;
  out.large_quality = std::accumulate(large.begin(), large.end(), 0.0) / n;
  const double gap = out.large_quality - out.small_quality;
  out.gap = gap > 0;
  std::vector<size_t> order(small.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sureness[a] < sureness[b]; });
  double right = out.small_quality * n;
  const auto point = [&](double threshold, size_t sent) {
    const double quality = right / n;
    out.points.push_back({threshold, static_cast<double>(sent) / n, quality, out.gap ? (quality - out.small_quality) / gap : 0});
  };
  point(sureness[order[0]], 0);
  for (size_t i = 0; i < order.size();) {
    const double value = sureness[order[i]];
    for (; i < order.size() && sureness[order[i]] == value; ++i) right += large[order[i]] - small[order[i]];
    point(i < order.size() ? sureness[order[i]] : INFINITY, i);
  }
  if (!out.gap) return out;
  constexpr double kRounding = 1e-12;
  bool half = false, most = false;
  for (size_t i = 0; i < out.points.size(); ++i) {
    const RoutePoint& here = out.points[i];
    if (i > 0) out.apgr += 0.5 * (here.recovered + out.points[i - 1].recovered) * (here.large_share - out.points[i - 1].large_share);
    if (!half && here.recovered >= 0.5 - kRounding) out.cpt50 = here.large_share, half = true;
    if (!most && here.recovered >= 0.8 - kRounding) out.cpt80 = here.large_share, most = true;
  }
  return out;
}

}  // namespace attar
