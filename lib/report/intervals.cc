#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "report/report.h"

namespace attar {

Interval wilson_interval(int64_t successes, int64_t trials, double z) {
  check(trials >= 0 && successes >= 0 && successes <= trials, "successes of a proportion", str("0 to ", trials).c_str(), std::to_string(successes));
  if (trials == 0) return {0, 1};  // nothing is known
  const double n = static_cast<double>(trials), share = static_cast<double>(successes) / n, square = z * z;
  const double middle = (share + square / (2 * n)) / (1 + square / n);
  const double half = z / (1 + square / n) * std::sqrt(share * (1 - share) / n + square / (4 * n * n));
  // The ends are exact where all or none succeed; rounding must not push them past.
  return {successes == 0 ? 0.0 : std::max(0.0, middle - half), successes == trials ? 1.0 : std::min(1.0, middle + half)};
}

}  // namespace attar
