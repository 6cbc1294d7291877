#include "decide/intervals.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

#include "base/check.h"

namespace attar {
namespace {

/// Tango's score statistic for H0: difference = delta, standard normal under it. Falls as delta grows.
double tango_score(double only_a, double only_b, double n, double delta) {
  const double a = 2 * n, b = -only_a - only_b + (2 * n - only_a + only_b) * delta, c = -only_b * delta * (1 - delta);
  const double share_b =
      (std::sqrt(std::max(0.0, b * b - 4 * a * c)) - b) / (2 * a);  // likeliest share of cases that only the second has, given delta
  const double variance = n * (2 * share_b + delta * (1 - delta));
  const double above = only_a - only_b - n * delta;
  if (variance <= 0) return above == 0 ? 0 : above > 0 ? INFINITY : -INFINITY;
  return above / std::sqrt(variance);
}

/// Where the falling statistic crosses `level`, between `low` and `high`.
double tango_root(double only_a, double only_b, double n, double level, double low, double high) {
  for (int step = 0; step < 200 && high - low > 1e-15; ++step) {
    const double middle = 0.5 * (low + high);
    (tango_score(only_a, only_b, n, middle) > level ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

}  // namespace

double binomial_tail(int64_t successes, int64_t trials, double share) {
  check(trials >= 0 && share >= 0 && share <= 1, "binomial distribution", "trials from 0 and a share of 0 to 1", str(trials, " and ", share));
  if (successes < 0) return 0;
  if (successes >= trials) return 1;
  return boost::math::cdf(boost::math::binomial_distribution<double>(static_cast<double>(trials), share), static_cast<double>(successes));
}

double binomial_upper_bound(int64_t failures, int64_t trials, double confidence) {
  if (trials <= 0 || failures >= trials) return 1;
  return boost::math::binomial_distribution<double>::find_upper_bound_on_p(static_cast<double>(trials), static_cast<double>(failures),
                                                                           1 - confidence);
}

Difference paired_proportions(int64_t only_a, int64_t only_b, int64_t n, double z) {
  check(n > 0 && only_a >= 0 && only_b >= 0 && only_a + only_b <= n, "paired cases", "one at least, and no more discordant ones", str(n));
  const double a = static_cast<double>(only_a), b = static_cast<double>(only_b), cases = static_cast<double>(n), value = (a - b) / cases;
  return {value, tango_root(a, b, cases, z, -1, value), tango_root(a, b, cases, -z, value, 1), n};
}

Difference paired_means(const std::vector<double>& a, const std::vector<double>& b) {
  check(a.size() == b.size() && a.size() >= 2, "paired values", "as many of each, two at least", str(a.size(), " and ", b.size()));
  const double n = static_cast<double>(a.size());
  double mean = 0, squares = 0;
  for (size_t i = 0; i < a.size(); ++i) mean += (a[i] - b[i]) / n;
  for (size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i] - mean) * (a[i] - b[i] - mean);
  const double half = boost::math::quantile(boost::math::students_t_distribution<double>(n - 1), 0.975) * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - half, mean + half, static_cast<int64_t>(a.size())};
}

Difference unpaired_difference(double a, double a_low, double a_high, double b, double b_low, double b_high) {
  return {a - b, a - b - std::hypot(a - a_low, b_high - b), a - b + std::hypot(a_high - a, b - b_low), 0};
}

}  // namespace attar
