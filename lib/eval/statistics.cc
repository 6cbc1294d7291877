#include "eval/statistics.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/rng.h"

namespace attar {

namespace {
std::vector<int64_t> drawn_cases(int64_t n, Rng& rng) {
  std::vector<int64_t> cases(static_cast<size_t>(n));
  for (auto& c : cases) c = rng.below(n);
  return cases;
}

double log_factorial(int64_t n) { return std::lgamma(static_cast<double>(n) + 1); }
}  // namespace

Json Measure::to_json() const { return Json{{"value", value}, {"low", low}, {"high", high}, {"n", n}}; }

MeanError mean_and_error(const std::vector<double>& values) {
  MeanError out;
  const double n = static_cast<double>(values.size());
  if (values.empty()) return out;
  for (const double v : values) out.mean += v / n;
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double v : values) squares += (v - out.mean) * (v - out.mean);
  out.error = std::sqrt(squares / (n - 1) / n);
  return out;
}

double percentile(const std::vector<double>& ascending, double share) {
  if (ascending.empty()) return 0;
  const double place = std::clamp(share, 0.0, 1.0) * static_cast<double>(ascending.size() - 1);
  const size_t below = static_cast<size_t>(place);
  if (below + 1 >= ascending.size()) return ascending.back();
  const double part = place - static_cast<double>(below);
  return (1 - part) * ascending[below] + part * ascending[below + 1];
}

std::optional<std::pair<double, double>> median_interval(const std::vector<double>& ascending) {
  const auto n = static_cast<double>(ascending.size());
  size_t k = 0;
  double tail = 0;  // of a binomial with probability 1/2: fewer than k values below the median
  for (; 2 * k < ascending.size(); ++k) {
    const auto j = static_cast<double>(k);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(j + 1) - std::lgamma(n - j + 1) - n * std::log(2.0));
    if (2 * tail > 0.05) break;
  }
  if (k == 0) return std::nullopt;
  return std::pair(ascending[k - 1], ascending[ascending.size() - k]);
}

Measure proportion(int64_t successes, int64_t trials) {
  if (trials <= 0) return {};
  const Interval interval = wilson_interval(successes, trials);
  return {static_cast<double>(successes) / static_cast<double>(trials), interval.low, interval.high, trials};
}

Measure bootstrap(int64_t n, const std::function<double(const std::vector<int64_t>&)>& statistic, int64_t resamples, uint64_t seed) {
  check(n > 0, "cases to resample", "one at least", "none");
  std::vector<int64_t> all(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) all[static_cast<size_t>(i)] = i;
  Measure out{statistic(all), 0, 0, n};
  std::vector<double> values;
  Rng rng(seed, stream_of("bootstrap"));
  for (int64_t r = 0; r < resamples; ++r) values.push_back(statistic(drawn_cases(n, rng)));
  std::sort(values.begin(), values.end());
  const double shift = out.value - percentile(values, 0.5);
  out.low = percentile(values, 0.025) + shift;
  out.high = percentile(values, 0.975) + shift;
  return out;
}

PairedDifference paired_bootstrap(const std::vector<double>& a, const std::vector<double>& b, int64_t resamples, uint64_t seed) {
  check(a.size() == b.size() && !a.empty(), "paired values", "as many of each, one at least", str(a.size(), " and ", b.size()));
  int64_t below = 0, above = 0;
  PairedDifference out;
  out.difference = bootstrap(
      static_cast<int64_t>(a.size()),
      [&](const std::vector<int64_t>& cases) {
        double sum = 0;
        for (const int64_t c : cases) sum += a[static_cast<size_t>(c)] - b[static_cast<size_t>(c)];
        below += sum <= 0;
        above += sum >= 0;
        return sum / static_cast<double>(cases.size());
      },
      resamples, seed);
  // The first call was over the cases themselves: with it counted, p is never 0 (Davison and Hinkley 1997, section 4.2).
  out.p = std::min(1.0, 2.0 * static_cast<double>(std::min(below, above) + (out.difference.value != 0)) / static_cast<double>(resamples + 1));
  return out;
}

double mcnemar_exact(int64_t only_a, int64_t only_b) {
  const int64_t n = only_a + only_b, least = std::min(only_a, only_b);
  double tail = 0;
  for (int64_t k = 0; k <= least; ++k) {
    const double log_ways = log_factorial(n) - log_factorial(k) - log_factorial(n - k);
    tail += std::exp(log_ways - static_cast<double>(n) * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

}  // namespace attar
