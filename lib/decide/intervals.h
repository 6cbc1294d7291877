#pragma once
#include <cstdint>
#include <vector>

namespace attar {

/// A difference with its 95% interval; `n` cases, 0 where it is not of cases.
struct Difference {
  double value = 0, low = 0, high = 0;
  int64_t n = 0;
};

/// P(X <= successes) for X ~ Binomial(trials, share); exact, by the incomplete beta function.
double binomial_tail(int64_t successes, int64_t trials, double share);

/// Smallest share p with P(X <= failures | p) <= 1 - confidence: the exact one-sided upper bound (Clopper and Pearson 1934). 1 where trials is 0.
double binomial_upper_bound(int64_t failures, int64_t trials, double confidence);

/// Difference of two proportions over the same cases: `only_a` cases where only the first succeeds, `only_b` where only the second does.
/// Score interval for paired proportions, Tango, Statistics in Medicine 17 (1998) 891-908. It holds its level near 0 and 1, where Wald's does not.
Difference paired_proportions(int64_t only_a, int64_t only_b, int64_t n, double z = 1.959963984540054);

/// Mean of a - b over the same cases with Student's interval. Error if sizes differ or there are fewer than two cases.
Difference paired_means(const std::vector<double>& a, const std::vector<double>& b);

/// Difference of two estimates that share no cases, from their own intervals (Newcombe's square-and-add, Statistics in Medicine 17 (1998) 873-890).
Difference unpaired_difference(double a, double a_low, double a_high, double b, double b_low, double b_high);

}  // namespace attar
