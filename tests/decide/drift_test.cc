#include "decide/drift.h"

#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "gtest/gtest.h"

namespace attar {
namespace {

/// Texts of tokens [0, kinds), drawn with a falling share, `from`: shift of every token.
std::vector<std::vector<int32_t>> drawn_texts(int64_t count, int64_t longest, int32_t from, uint64_t seed) {
  Rng rng(seed);
  std::vector<std::vector<int32_t>> out;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t> text;
    for (int64_t t = 0, length = longest / 2 + static_cast<int64_t>(rng.below(static_cast<uint64_t>(longest) / 2 + 1)); t < length; ++t)
      text.push_back(from + static_cast<int32_t>(std::min(rng.below(50), rng.below(50))));
    out.push_back(std::move(text));
  }
  return out;
}

TEST(Drift, KolmogorovSmirnovAsSciPyGivesIt) {
  // scipy.stats.ks_2samp(...).statistic, scipy.special.kolmogorov(statistic * sqrt(n m / (n + m))), SciPy 1.16
  const KolmogorovSmirnov found = kolmogorov_smirnov({1, 2, 2, 3, 5, 8, 13, 21, 34, 55}, {2, 3, 4, 4, 6, 9, 9, 30});
  EXPECT_NEAR(found.distance, 0.275, 1e-12);
  EXPECT_NEAR(found.p, 0.8899057825289229, 1e-9);
  const KolmogorovSmirnov same = kolmogorov_smirnov({1, 2, 3}, {3, 2, 1});
  EXPECT_EQ(same.distance, 0);
  EXPECT_EQ(same.p, 1);
  EXPECT_EQ(kolmogorov_smirnov({1, 2}, {3, 4}).distance, 1);
}

TEST(Drift, MannWhitneyAsSciPyGivesIt) {
  // scipy.stats.mannwhitneyu(a, b, method="asymptotic"): U and p, SciPy 1.16; delta = 2 U / (n m) - 1
  const MannWhitney found = mann_whitney({0, 0, 0.25, 0.5, 0.5, 0.75, 1, 1, 1, 1}, {0, 0, 0, 0.1, 0.25, 0.5, 0.5, 1});
  EXPECT_NEAR(found.delta, 0.4125000000000001, 1e-12);
  EXPECT_NEAR(found.p, 0.14412703481601533, 1e-12);
  EXPECT_NEAR(mann_whitney({1, 1, 0, 1}, {0, 1, 0, 0, 0}).delta, 0.75 - 0.2, 1e-12) << "of ones and zeros it is the difference of the shares";
  EXPECT_EQ(mann_whitney({1, 1}, {1, 1, 1}).p, 1) << "nothing differs";
  EXPECT_THROW(mann_whitney({}, {1}), Error);
}

TEST(Drift, FisherExactAsSciPyGivesIt) {
  EXPECT_NEAR(fisher_exact(8, 10, 1, 6), 0.034965034965034975, 1e-12);
  EXPECT_NEAR(fisher_exact(90, 100, 160, 200), 0.03242454907948308, 1e-9);
  EXPECT_EQ(fisher_exact(0, 10, 0, 7), 1);
  EXPECT_THROW(fisher_exact(11, 10, 0, 7), Error);
}

TEST(Drift, ATextIsJudgedByAllOthers) {
  const TextProfile profile = profile_texts({{1, 1, 2}, {2, 3}, {1}}, "t");
  EXPECT_EQ(profile.lengths, (std::vector<double>{3, 2, 1}));
  // Of the others: 1 once, 2 once, 3 once among 3 tokens; three kinds and the unseen one.
  EXPECT_NEAR(profile.surprisal[0], -(2 * std::log(2.0 / 7) + std::log(2.0 / 7)) / 3, 1e-12);
  EXPECT_NEAR(profile.surprisal[1], -(std::log(2.0 / 8) + std::log(1.0 / 8)) / 2, 1e-12);
  const TextProfile now = profile_texts({{1, 9}}, profile);
  EXPECT_NEAR(now.surprisal[0], -(std::log(4.0 / 10) + std::log(1.0 / 10)) / 2, 1e-12);
}

TEST(Drift, ProfilesAreReadBack) {
  const TextProfile profile = profile_texts(drawn_texts(25, 12, 0, 1), "abc");
  const TextProfile back = read_profile(profile.to_json(), "profile");
  EXPECT_EQ(back.counts, profile.counts);
  EXPECT_EQ(back.lengths, profile.lengths);
  EXPECT_EQ(back.surprisal, profile.surprisal);
  EXPECT_EQ(back.tokenizer, "abc");
  Json damaged = profile.to_json();
  damaged["lengths"].erase(0);
  EXPECT_THROW(read_profile(damaged, "profile"), Error);
  damaged = profile.to_json();
  damaged["tokens"][0] = {1, -4};
  EXPECT_THROW(read_profile(damaged, "profile"), Error);
}

TEST(Drift, FindsOtherLengthsOtherWordsLowerConfidenceAndMoreErrors) {
  DriftInputs inputs;
  inputs.reference = profile_texts(drawn_texts(400, 20, 0, 1), "t");
  const auto named = [](const std::vector<DriftTest>& tests, const std::string& name) {
    for (const DriftTest& t : tests)
      if (t.name == name) return t;
    throw std::logic_error("no test " + name);
  };
  inputs.now = profile_texts(drawn_texts(300, 20, 0, 2), inputs.reference);
  inputs.reference_confidence.assign(400, 0.9), inputs.confidence.assign(300, 0.9);
  inputs.scores = {{"accuracy", std::vector<double>(400, 1), std::vector<double>(300, 1)}};
  auto tests = find_drift(inputs, 0.01, 0.1);
  ASSERT_EQ(tests.size(), 4u);
  for (const DriftTest& test : tests) EXPECT_FALSE(test.drifted) << test.name;
  EXPECT_FALSE(drift_json(tests, 0.01, 0.1)["drifted"].get<bool>());

  inputs.now = profile_texts(drawn_texts(300, 40, 0, 2), inputs.reference);
  EXPECT_TRUE(named(find_drift(inputs, 0.01, 0.1), "length").drifted);
  inputs.now = profile_texts(drawn_texts(300, 20, 15, 2), inputs.reference);
  EXPECT_TRUE(named(find_drift(inputs, 0.01, 0.1), "words").drifted);
  inputs.confidence.assign(300, 0.7);
  EXPECT_TRUE(named(find_drift(inputs, 0.01, 0.1), "confidence").drifted);
  std::fill(inputs.scores[0].now.begin(), inputs.scores[0].now.begin() + 60, 0.0);
  const DriftTest accuracy = named(find_drift(inputs, 0.01, 0.1), "accuracy");
  EXPECT_TRUE(accuracy.drifted);
  EXPECT_NEAR(accuracy.effect, 0.2, 1e-12);
  EXPECT_FALSE(named(find_drift(inputs, 0.01, 0.3), "accuracy").drifted) << "sure, but too small to matter";
}

TEST(Drift, GradedAnswersAreHeldAgainstEachOtherByTheirRanks) {
  DriftInputs inputs;
  inputs.reference = profile_texts(drawn_texts(200, 20, 0, 1), "t");
  inputs.now = profile_texts(drawn_texts(200, 20, 0, 2), inputs.reference);
  Rng rng(3);
  std::vector<double> before, now;
  for (int i = 0; i < 200; ++i) before.push_back(static_cast<double>(rng.below(11)) / 10), now.push_back(static_cast<double>(rng.below(8)) / 10);
  inputs.scores = {{"f1", before, now}, {"word_nll", before, now, true}, {"rouge_l", before, {}}};
  const std::vector<DriftTest> tests = find_drift(inputs, 0.01, 0.1);
  ASSERT_EQ(tests.size(), 4u) << "rouge_l has nothing to be held against";
  EXPECT_EQ(tests[2].name, "f1");
  EXPECT_TRUE(tests[2].drifted);
  EXPECT_EQ(tests[2].p, mann_whitney(before, now).p);
  EXPECT_NEAR(tests[2].effect, mann_whitney(before, now).delta, 1e-12);
  EXPECT_NEAR(tests[3].effect, -tests[2].effect, 1e-12) << "where less is better it became better";
  EXPECT_FALSE(tests[3].drifted);
}

TEST(Drift, FalseAlarmsAreAsRareAsTheLevelSays) {
  int alarms = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    DriftInputs inputs;
    inputs.reference = profile_texts(drawn_texts(60, 20, 0, 1000 + seed), "t");
    inputs.now = profile_texts(drawn_texts(60, 20, 0, 5000 + seed), inputs.reference);
    for (const DriftTest& test : find_drift(inputs, 0.05, 0)) alarms += test.drifted;
  }
  EXPECT_LE(alarms, 10);
}

TEST(Drift, RefusesWhatCannotBeCompared) {
  DriftInputs inputs;
  inputs.reference = profile_texts(drawn_texts(30, 20, 0, 1), "t");
  inputs.now = profile_texts(drawn_texts(19, 20, 0, 2), inputs.reference);
  EXPECT_THROW(find_drift(inputs, 0.01, 0.1), Error);
  inputs.now = profile_texts(drawn_texts(30, 20, 0, 2), "u");
  EXPECT_THROW(find_drift(inputs, 0.01, 0.1), Error);
  inputs.now = inputs.reference;
  EXPECT_THROW(find_drift(inputs, 0, 0.1), Error);
}

}  // namespace
}  // namespace attar
