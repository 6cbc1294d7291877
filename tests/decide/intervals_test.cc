#include "decide/intervals.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"

namespace attar {
namespace {

TEST(Intervals, BinomialTailIsExact) {
  // By hand: (3/4)^4 and its neighbours.
  EXPECT_DOUBLE_EQ(binomial_tail(0, 4, 0.25), 81.0 / 256);
  EXPECT_NEAR(binomial_tail(1, 4, 0.25), (81.0 + 108) / 256, 1e-15);
  EXPECT_EQ(binomial_tail(4, 4, 0.25), 1);
  EXPECT_EQ(binomial_tail(-1, 4, 0.25), 0);
  EXPECT_EQ(binomial_tail(0, 0, 0.25), 1);
  EXPECT_THROW(binomial_tail(1, 4, 1.5), Error);
}

TEST(Intervals, UpperBoundIsWhereTheTailReachesItsLevel) {
  for (const int64_t failures : {0, 1, 7, 40}) {
    const double bound = binomial_upper_bound(failures, 200, 0.95);
    EXPECT_NEAR(binomial_tail(failures, 200, bound), 0.05, 1e-9);
  }
  EXPECT_NEAR(binomial_upper_bound(0, 100, 0.95), 1 - std::pow(0.05, 0.01), 1e-12);
  EXPECT_EQ(binomial_upper_bound(0, 0, 0.95), 1);
}

TEST(Intervals, TangoHoldsWhereWaldFails) {
  // No discordant pair at all: Wald's interval is a point, this one is not. At 0 discordant pairs its ends are -+ z^2 / (n + z^2).
  const Difference none = paired_proportions(0, 0, 44);
  const double z2 = 1.959963984540054 * 1.959963984540054;
  EXPECT_EQ(none.value, 0);
  EXPECT_NEAR(none.high, z2 / (44 + z2), 1e-9);
  EXPECT_NEAR(none.low, -z2 / (44 + z2), 1e-9);
  const Difference ab = paired_proportions(12, 4, 100), ba = paired_proportions(4, 12, 100);
  EXPECT_NEAR(ab.low, -ba.high, 1e-12);
  EXPECT_NEAR(ab.high, -ba.low, 1e-12);
  EXPECT_LT(ab.low, ab.value);
  EXPECT_GT(ab.high, ab.value);
  EXPECT_THROW(paired_proportions(5, 5, 9), Error);
}

TEST(Intervals, PairedMeansUseTheDifferencesOnly) {
  const Difference d = paired_means({10, 20, 30, 41}, {9, 19, 29, 39});
  EXPECT_NEAR(d.value, 1.25, 1e-12);
  EXPECT_NEAR(d.high - d.value, 3.182446305284263 * 0.25, 1e-9);  // Student's t of 3 degrees, deviation 0.5, four cases
  EXPECT_THROW(paired_means({1, 2}, {1}), Error);
}

TEST(Intervals, UnpairedAddsSquares) {
  const Difference d = unpaired_difference(0.9, 0.87, 0.92, 0.8, 0.76, 0.84);
  EXPECT_NEAR(d.low, 0.1 - std::hypot(0.03, 0.04), 1e-12);
  EXPECT_NEAR(d.high, 0.1 + std::hypot(0.02, 0.04), 1e-12);
}

}  // namespace
}  // namespace attar
