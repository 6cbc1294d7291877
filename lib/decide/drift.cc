#include "decide/drift.h"

#include <algorithm>
#include <boost/math/special_functions/gamma.hpp>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/json_get.h"

namespace attar {
namespace {

constexpr size_t kFewestTexts = 20;

int64_t total(const std::map<int32_t, int64_t>& counts) {
  int64_t sum = 0;
  for (const auto& [token, count] : counts) sum += count;
  return sum;
}

std::map<int32_t, int64_t> counted(const std::vector<int32_t>& text) {
  std::map<int32_t, int64_t> out;
  for (const int32_t id : text) ++out[id];
  return out;
}

/// Mean -log of (count + 1) / (all + kinds + 1) over a text's tokens; the last kind is any token never seen. `own`: counts taken out before.
double surprisal_of(const std::map<int32_t, int64_t>& text, int64_t length, const std::map<int32_t, int64_t>& counts, int64_t all,
                    const std::map<int32_t, int64_t>& own) {
  double sum = 0;
  for (const auto& [token, times] : text) {
    const auto there = counts.find(token), taken = own.find(token);
    const int64_t count = (there == counts.end() ? 0 : there->second) - (taken == own.end() ? 0 : taken->second);
    sum -= static_cast<double>(times) * std::log(static_cast<double>(count + 1) / static_cast<double>(all + static_cast<int64_t>(counts.size()) + 1));
  }
  return sum / static_cast<double>(std::max<int64_t>(length, 1));
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

double mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// P(sup > x) of Kolmogorov's distribution.
double kolmogorov_tail(double x) {
  if (x < 0.2) return 1;
  double sum = 0;
  for (int k = 1; k <= 100; ++k) sum += (k % 2 ? 2 : -2) * std::exp(-2.0 * k * k * x * x);
  return std::clamp(sum, 0.0, 1.0);
}

DriftTest distance_test(const std::string& name, const std::vector<double>& reference, const std::vector<double>& now) {
  const KolmogorovSmirnov found = kolmogorov_smirnov(reference, now);
  return {name, median(reference), median(now), found.distance, found.p, 1, false};
}

bool ones_and_zeros(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return value == 0 || value == 1; });
}

/// Fisher's test where an answer is right or wrong, Mann-Whitney's where there is something between.
DriftTest score_test(const DriftScores& scores) {
  const double sign = scores.less_is_better ? -1 : 1;
  const MannWhitney found = mann_whitney(scores.reference, scores.now);
  DriftTest out{scores.metric, mean(scores.reference), mean(scores.now), sign * found.delta, found.p, 1, false};
  if (ones_and_zeros(scores.reference) && ones_and_zeros(scores.now)) {
    const auto ones = [](const std::vector<double>& of) { return static_cast<int64_t>(std::count(of.begin(), of.end(), 1.0)); };
    out.p = fisher_exact(ones(scores.reference), static_cast<int64_t>(scores.reference.size()), ones(scores.now),
                         static_cast<int64_t>(scores.now.size()));
  }
  return out;
}

/// Holm, Scandinavian Journal of Statistics 6 (1979) 65-70: the k-th smallest of m p-values times m - k + 1, never falling.
void adjust(std::vector<DriftTest>& tests) {
  std::vector<size_t> order(tests.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return tests[a].p < tests[b].p; });
  double before = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    before = std::max(before, std::min(1.0, tests[order[i]].p * static_cast<double>(order.size() - i)));
    tests[order[i]].adjusted = before;
  }
}

}  // namespace

TextProfile profile_texts(const std::vector<std::vector<int32_t>>& texts, const std::string& tokenizer) {
  TextProfile out;
  out.tokenizer = tokenizer;
  for (const auto& text : texts)
    for (const int32_t id : text) ++out.counts[id];
  const int64_t all = total(out.counts);
  for (const auto& text : texts) {
    const auto own = counted(text);
    const auto length = static_cast<int64_t>(text.size());
    out.lengths.push_back(static_cast<double>(length));
    out.surprisal.push_back(surprisal_of(own, length, out.counts, all - length, own));
  }
  return out;
}

TextProfile profile_texts(const std::vector<std::vector<int32_t>>& texts, const TextProfile& reference) {
  TextProfile out;
  out.tokenizer = reference.tokenizer;
  const int64_t all = total(reference.counts);
  for (const auto& text : texts) {
    const auto own = counted(text);
    for (const auto& [token, times] : own) out.counts[token] += times;
    const auto length = static_cast<int64_t>(text.size());
    out.lengths.push_back(static_cast<double>(length));
    out.surprisal.push_back(surprisal_of(own, length, reference.counts, all, {}));
  }
  return out;
}

Json TextProfile::to_json() const {
  Json tokens = Json::array();
  for (const auto& [token, count] : counts) tokens.push_back({token, count});
  return Json{{"tokenizer", tokenizer}, {"tokens", tokens}, {"lengths", lengths}, {"surprisal", surprisal}};
}

TextProfile read_profile(const Json& json, const std::string& where) {
  TextProfile out;
  out.tokenizer = get<std::string>(json, "tokenizer", where);
  out.lengths = get<std::vector<double>>(json, "lengths", where);
  out.surprisal = get<std::vector<double>>(json, "surprisal", where);
  for (const auto& pair : get<std::vector<std::vector<int64_t>>>(json, "tokens", where)) {
    check(pair.size() == 2 && pair[0] >= 0 && pair[0] <= INT32_MAX && pair[1] > 0, where + ": tokens", "pairs of a token and its count",
          "another form");
    out.counts[static_cast<int32_t>(pair[0])] = pair[1];
  }
  check(out.lengths.size() == out.surprisal.size(), where + ": lengths and surprisal", "one of each a text",
        str(out.lengths.size(), " and ", out.surprisal.size()));
  return out;
}

KolmogorovSmirnov kolmogorov_smirnov(std::vector<double> a, std::vector<double> b) {
  check(!a.empty() && !b.empty(), "samples to compare", "values in both", "an empty one");
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  const double n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  double distance = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const double at = std::min(a[i], b[j]);
    while (i < a.size() && a[i] == at) ++i;
    while (j < b.size() && b[j] == at) ++j;
    distance = std::max(distance, std::abs(static_cast<double>(i) / n - static_cast<double>(j) / m));
  }
  return {distance, kolmogorov_tail(distance * std::sqrt(n * m / (n + m)))};
}

MannWhitney mann_whitney(const std::vector<double>& a, const std::vector<double>& b) {
  check(!a.empty() && !b.empty(), "samples to compare", "values in both", "an empty one");
  std::vector<std::pair<double, bool>> all;
  for (const double value : a) all.push_back({value, true});
  for (const double value : b) all.push_back({value, false});
  std::sort(all.begin(), all.end());
  const double n = static_cast<double>(a.size()), m = static_cast<double>(b.size()), both = n + m;
  double ranks = 0, tied = 0;
  for (size_t begin = 0, end = 0; begin < all.size(); begin = end) {
    double own = 0;
    for (; end < all.size() && all[end].first == all[begin].first; ++end) own += all[end].second;
    const double many = static_cast<double>(end - begin);
    ranks += own * (static_cast<double>(begin + end) + 1) / 2;
    tied += many * many * many - many;
  }
  const double above = ranks - n * (n + 1) / 2;  // pairs that `a` wins, ties half
  const double spread = std::sqrt(n * m / 12 * (both + 1 - tied / (both * (both - 1))));
  MannWhitney out{2 * above / (n * m) - 1, 1};
  if (spread > 0) out.p = std::min(1.0, std::erfc((std::max(above, n * m - above) - n * m / 2 - 0.5) / spread / std::sqrt(2.0)));
  return out;
}

double fisher_exact(int64_t a, int64_t a_all, int64_t b, int64_t b_all) {
  check(a >= 0 && b >= 0 && a <= a_all && b <= b_all, "counts of a two-by-two table", "parts of their wholes",
        str(a, "/", a_all, ", ", b, "/", b_all));
  const auto log_choose = [](int64_t n, int64_t k) {
    return boost::math::lgamma(static_cast<double>(n + 1)) - boost::math::lgamma(static_cast<double>(k + 1)) -
           boost::math::lgamma(static_cast<double>(n - k + 1));
  };
  const int64_t right = a + b, all = a_all + b_all;
  const double whole = log_choose(all, right), seen = log_choose(a_all, a) + log_choose(b_all, b) - whole;
  double p = 0;
  for (int64_t x = std::max<int64_t>(0, right - b_all); x <= std::min(right, a_all); ++x) {
    const double chance = log_choose(a_all, x) + log_choose(b_all, right - x) - whole;
    if (chance <= seen + 1e-7) p += std::exp(chance);
  }
  return std::min(p, 1.0);
}

std::vector<DriftTest> find_drift(const DriftInputs& inputs, double level, double threshold) {
  check(level > 0 && level < 1, "level", "above 0 and below 1", str(level));
  check(threshold >= 0 && threshold < 1, "threshold", "0 or more and below 1", str(threshold));
  check(inputs.reference.tokenizer == inputs.now.tokenizer, "tokenizer of the new texts", "the reference's", "another");
  check(inputs.reference.lengths.size() >= kFewestTexts && inputs.now.lengths.size() >= kFewestTexts, "texts to compare",
        str(kFewestTexts, " at least on both sides"), str(inputs.reference.lengths.size(), " and ", inputs.now.lengths.size()));
  std::vector<DriftTest> out = {distance_test("length", inputs.reference.lengths, inputs.now.lengths),
                                distance_test("words", inputs.reference.surprisal, inputs.now.surprisal)};
  if (!inputs.reference_confidence.empty() && !inputs.confidence.empty())
    out.push_back(distance_test("confidence", inputs.reference_confidence, inputs.confidence));
  for (const DriftScores& scores : inputs.scores)
    if (!scores.reference.empty() && !scores.now.empty()) out.push_back(score_test(scores));
  adjust(out);
  for (DriftTest& test : out) test.drifted = test.adjusted < level && test.effect >= threshold;
  return out;
}

Json drift_json(const std::vector<DriftTest>& tests, double level, double threshold) {
  Json rows = Json::array();
  bool any = false;
  for (const DriftTest& t : tests) {
    rows.push_back({{"name", t.name}, {"reference", t.reference}, {"now", t.now}, {"effect", t.effect}, {"p", t.p}, {"p_adjusted", t.adjusted},
                    {"drifted", t.drifted}});
    any = any || t.drifted;
  }
  return Json{{"drifted", any}, {"level", level}, {"threshold", threshold}, {"tests", rows}};
}

}  // namespace attar
