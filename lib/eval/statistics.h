#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/json.h"
#include "report/report.h"

namespace attar {

/// A number with its 95% interval and how many cases it is of; report.json's {value, low, high, n}.
struct Measure {
  double value = 0, low = 0, high = 0;
  int64_t n = 0;
  Json to_json() const;
};

/// Mean and its standard error (deviation / sqrt(n), n - 1 in the variance); error 0 below two values.
struct MeanError {
  double mean = 0, error = 0;
};
MeanError mean_and_error(const std::vector<double>& values);

/// Value at `share` (0..1) of ascending values, linear between neighbours; 0 if there are none.
double percentile(const std::vector<double>& ascending, double share);

/// A 95% interval of the median that assumes nothing of the distribution: the k-th of the ascending values from either end, with the largest k that a
/// binomial's tails allow (David and Nagaraja, Order Statistics, section 7.1). None below 6 values, where both ends hold less.
std::optional<std::pair<double, double>> median_interval(const std::vector<double>& ascending);

/// successes / trials with Wilson's interval.
Measure proportion(int64_t successes, int64_t trials);

/// Percentile bootstrap of any statistic of cases: `statistic` gets the numbers of n drawn cases. The interval is shifted so that the resamples'
/// median lies on the value: resampling makes some statistics larger (a calibration error) by itself. Seeded: same input, same interval.
Measure bootstrap(int64_t n, const std::function<double(const std::vector<int64_t>& cases)>& statistic, int64_t resamples = 1000, uint64_t seed = 0);

/// Mean of a - b over the same cases, its bootstrap interval, and the two-sided p-value (share of resamples on the other side of 0, doubled).
struct PairedDifference {
  Measure difference;
  double p = 1;
};
PairedDifference paired_bootstrap(const std::vector<double>& a, const std::vector<double>& b, int64_t resamples = 10000, uint64_t seed = 0);

/// Exact two-sided McNemar test: cases that only the one or only the other got right, under a fair coin (McNemar 1947).
double mcnemar_exact(int64_t only_a, int64_t only_b);

}  // namespace attar
