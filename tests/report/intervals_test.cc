#include "base/check.h"
#include "data_path.h"
#include "report/report.h"

namespace attar {
namespace {

// By SciPy 1.17's binomtest(k, n).proportion_ci(method="wilson").
struct KnownInterval {
  int64_t successes, trials;
  double low, high;
};

TEST(Intervals, WilsonAgreesWithKnownValues) {
  const KnownInterval known[] = {{45, 50, 0.7863976856252034, 0.9565242350681095}, {0, 20, 0.0, 0.16112515805281935}, {20, 20, 0.8388748419471808,
      1.0},
                                 {1903, 2002, 0.9401594752584546, 0.9592136990604352}, {1, 3, 0.06149194472039626, 0.7923403991979523}};
  for (const KnownInterval& k : known) {
    const Interval interval = wilson_interval(k.successes, k.trials);
    EXPECT_NEAR(interval.low, k.low, 1e-12) << k.successes << " of " << k.trials;
    EXPECT_NEAR(interval.high, k.high, 1e-12) << k.successes << " of " << k.trials;
  }
}

TEST(Intervals, WilsonKnowsNothingWithoutTrials) {
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(Intervals, WilsonStaysInsideAndTouchesTheEnds) {
  for (int64_t n : {1, 7, 1000, 100000000}) {
    EXPECT_EQ(wilson_interval(0, n).low, 0.0);
    EXPECT_EQ(wilson_interval(n, n).high, 1.0);
    EXPECT_LT(wilson_interval(0, n).high, 1.0);
    EXPECT_GT(wilson_interval(n, n).low, 0.0);
  }
}

TEST(Intervals, WilsonRefusesMoreSuccessesThanTrials) {
  EXPECT_THROW(wilson_interval(3, 2), Error);
  EXPECT_THROW(wilson_interval(-1, 2), Error);
}

}  // namespace
}  // namespace attar
