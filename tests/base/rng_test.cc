#include "base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"

namespace attar {

TEST(Rng, GivesThePublishedPhiloxVectors) {
  // Known answers of the paper's own library: counter, key -> four words, of which next() shows the first two.
  EXPECT_EQ(Rng(0, 0, 0).next(), 0xE169C58D6627E8D5u);
  EXPECT_EQ(Rng(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}).next(), 0x41C83B0E408F276Du);
  EXPECT_EQ(Rng(0x299F31D0A4093822u, 0x0370734413198A2Eu, 0x85A308D3243F6A88u).next(), 0x94FDCCEBD16CFE09u);
}

TEST(Rng, AnyPositionIsReachedWithoutWhatCameBefore) {
  Rng all(7, 3);
  for (uint64_t i = 0; i < 100; ++i) {
    Rng there(7, 3, i);
    EXPECT_EQ(all.index(), i);
    if (i % 3 == 0) { EXPECT_EQ(all.next(), there.next()); }
    if (i % 3 == 1) { EXPECT_EQ(all.normal(), there.normal()); }
    if (i % 3 == 2) { EXPECT_EQ(all.uniform(), there.uniform()); }
  }
}

TEST(Rng, SeedsAndStreamsDiffer) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 20; ++seed)
    for (uint64_t stream = 0; stream < 20; ++stream) seen.insert(Rng(seed, stream).next());
  EXPECT_EQ(seen.size(), 400u);
  EXPECT_NE(stream_of("data"), stream_of("date"));
  EXPECT_EQ(stream_of("data"), stream_of(std::string("data")));
}

TEST(Rng, MomentsOfUniformAndNormal) {
  Rng rng(11);
  constexpr int kDraws = 200000;
  double uniform = 0, first = 0, second = 0, fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    uniform += u;
    const double x = rng.normal();
    ASSERT_TRUE(std::isfinite(x));
    first += x;
    second += x * x;
    fourth += x * x * x * x;
  }
  // Five standard errors of each estimate.
  EXPECT_NEAR(uniform / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(first / kDraws, 0.0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(second / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3.0, 5 * std::sqrt(96.0 / kDraws));
}

TEST(Rng, BelowIsEvenAndInRange) {
  Rng rng(5);
  std::vector<int> counts(7);
  constexpr int kDraws = 70000;
  for (int i = 0; i < kDraws; ++i) ++counts.at(static_cast<size_t>(rng.below(7)));
  double chi2 = 0;
  for (int count : counts) chi2 += (count - 10000.0) * (count - 10000.0) / 10000.0;
  EXPECT_LT(chi2, 35.0) << "six degrees of freedom";
  EXPECT_EQ(rng.below(1), 0);
  for (int i = 0; i < 100; ++i) EXPECT_GE(rng.below(INT64_MAX), 0);
  EXPECT_THROW(rng.below(0), Error);
  EXPECT_THROW(rng.below(-3), Error);
}

TEST(Rng, BelowDoesNotFavourLowHalvesOfAHugeRange) {
  // Three quarters of 2^63: taking a remainder would give the lowest quarter twice as often.
  const int64_t bound = int64_t{3} << 61;
  Rng rng(1);
  int low = 0;
  constexpr int kDraws = 60000;
  for (int i = 0; i < kDraws; ++i) low += rng.below(bound) < bound / 3;
  EXPECT_NEAR(low, kDraws / 3, 5 * std::sqrt(kDraws * 2.0 / 9));
}

TEST(Rng, PermutationsHoldEveryNumberOnce) {
  for (int64_t n : {0, 1, 2, 5, 1000}) {
    const auto order = permutation(n, 3, 4);
    ASSERT_EQ(static_cast<int64_t>(order.size()), n);
    EXPECT_EQ(static_cast<int64_t>(std::set<int64_t>(order.begin(), order.end()).size()), n);
    if (n > 0) { EXPECT_EQ(*std::max_element(order.begin(), order.end()), n - 1); }
  }
  EXPECT_EQ(permutation(50, 3, 4), permutation(50, 3, 4));
  EXPECT_NE(permutation(50, 3, 4), permutation(50, 3, 5));
  EXPECT_THROW(permutation(-1, 0, 0), Error);
  std::vector<int> counts(6);  // all orders of three are equally likely
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    const auto p = permutation(3, seed, 0);
    ++counts.at(static_cast<size_t>(p[0] * 2 + (p[1] > p[2])));
  }
  for (int count : counts) EXPECT_NEAR(count, 1000, 150);
}

}  // namespace attar
