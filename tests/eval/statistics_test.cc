#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "base/rng.h"

namespace attar {
namespace {

TEST(Statistics, ProportionIsWilsons) {
  const Measure m = proportion(8, 10);  // Newcombe 1998's formula worked by hand: 0.4902, 0.9433
  EXPECT_DOUBLE_EQ(m.value, 0.8);
  EXPECT_NEAR(m.low, 0.49016, 1e-4);
  EXPECT_NEAR(m.high, 0.94331, 1e-4);
  EXPECT_EQ(proportion(0, 0).n, 0);
}

TEST(Statistics, MeanErrorAndPercentiles) {
  const MeanError m = mean_and_error({1, 2, 3, 4});
  EXPECT_DOUBLE_EQ(m.mean, 2.5);
  EXPECT_NEAR(m.error, std::sqrt(5.0 / 3 / 4), 1e-12);
  EXPECT_EQ(mean_and_error({7}).error, 0);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4}, 1), 4);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4}, 0), 1);
  EXPECT_DOUBLE_EQ(percentile({5}, 0.9), 5);
}

TEST(Statistics, AMediansIntervalIsTwoOfItsValues) {
  const auto ranks = [](int n) {
    std::vector<double> values;
    for (int i = 1; i <= n; ++i) values.push_back(i);
    return median_interval(values);
  };
  // scipy.stats.binom.ppf(0.025, n, 0.5) is the lower rank.
  EXPECT_FALSE(ranks(0));
  EXPECT_FALSE(ranks(5));
  for (const auto& [n, low, high] : std::vector<std::tuple<int, double, double>>{{6, 1, 6}, {9, 2, 8}, {10, 2, 9}, {20, 6, 15}, {100, 40, 61}})
    EXPECT_EQ(ranks(n), std::pair(low, high)) << n;
  EXPECT_EQ(ranks(3000)->first, 1446);
}

TEST(Statistics, McNemarIsTheBinomialTail) {
  EXPECT_NEAR(mcnemar_exact(1, 9), 2 * 11 / 1024.0, 1e-12);
  EXPECT_NEAR(mcnemar_exact(9, 1), 2 * 11 / 1024.0, 1e-12);
  EXPECT_DOUBLE_EQ(mcnemar_exact(5, 5), 1);
  EXPECT_DOUBLE_EQ(mcnemar_exact(0, 0), 1);
  EXPECT_NEAR(mcnemar_exact(0, 20), std::pow(2.0, -19), 1e-18);
}

TEST(Statistics, BootstrapFindsTheErrorOfAMean) {
  Rng rng(3);
  std::vector<double> a(400), b(400);
  for (size_t i = 0; i < a.size(); ++i) {
    const double shared = rng.normal();
    a[i] = shared + 0.3 + 0.5 * rng.normal();
    b[i] = shared;
  }
  const PairedDifference found = paired_bootstrap(a, b, 2000, 1);
  std::vector<double> difference(a.size());
  for (size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  const MeanError m = mean_and_error(difference);
  EXPECT_NEAR(found.difference.value, m.mean, 1e-12);
  EXPECT_NEAR(found.difference.low, m.mean - 1.96 * m.error, 0.2 * m.error);
  EXPECT_NEAR(found.difference.high, m.mean + 1.96 * m.error, 0.2 * m.error);
  EXPECT_LT(found.p, 0.01);
  EXPECT_GT(found.p, 0);
  EXPECT_EQ(paired_bootstrap(a, a, 200, 1).p, 1);
  EXPECT_EQ(paired_bootstrap(a, b, 200, 1).difference.low, paired_bootstrap(a, b, 200, 1).difference.low);
}

}  // namespace
}  // namespace attar
