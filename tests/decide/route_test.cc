#include "decide/route.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "data_path.h"

namespace attar {
namespace {

/// Scores as an evaluate stage would leave them: sureness uniform, an answer wrong with probability (1 - sureness) / 2.
Scores random_scores(const std::string& name, int64_t n, uint64_t seed, double wrong_at_zero) {
  Scores out;
  out.header = {name, "hash of " + name, "task", "examples", {"a", "b", "c"}};
  Rng rng(seed, stream_of(name));
  for (int64_t i = 0; i < n; ++i) {
    ExampleScore s;
    s.max_probability = rng.uniform();
    s.margin = s.max_probability / 2, s.entropy = 1 - s.max_probability;
    s.label = 1, s.chosen = rng.uniform() < wrong_at_zero * (1 - s.max_probability) ? 0 : 1;
    out.rows.push_back(s);
  }
  return out;
}

TEST(Route, GuaranteeHoldsInAtLeast95PercentOf200Draws) {
  // The true share of wrong answers at threshold t is known: the mean of (1 - s) / 2 over s in [t, 1], which is (1 - t) / 4.
  constexpr double kError = 0.1, kConfidence = 0.95;
  int64_t held = 0, certified = 0;
  double served = 0;
  for (uint64_t draw = 0; draw < 200; ++draw) {
    const Scores scores = random_scores("small", 3000, draw, 0.5);
    const Threshold t = learn_then_test(sureness_of(scores, "max_probability"), scores.correct(), kError, kConfidence, draw);
    held += !t.at_least || (1 - *t.at_least) / 4 <= kError;
    certified += t.at_least.has_value();
    if (t.at_least) served += 1 - *t.at_least;
  }
  EXPECT_GE(held, 190);
  EXPECT_GE(certified, 180);
  EXPECT_GT(served / 200, 0.27);  // 0.4 could be served if the truth were known
}

TEST(Route, AThresholdThatIsOnlyThePointEstimateDoesNotHold) {
  // The same draws with the loosest threshold whose observed share of wrong answers is within bounds: it fails far more often than one time in
  // twenty.
  int64_t held = 0;
  for (uint64_t draw = 0; draw < 200; ++draw) {
    const Scores scores = random_scores("small", 1500, draw, 0.5);
    double loosest = 1;
    for (int percent = 99; percent >= 0; --percent) {
      int64_t served = 0, wrong = 0;
      for (const ExampleScore& row : scores.rows)
        if (row.max_probability >= percent / 100.0) ++served, wrong += !row.correct();
      if (served && static_cast<double>(wrong) <= 0.1 * static_cast<double>(served)) loosest = percent / 100.0;
    }
    held += (1 - loosest) / 4 <= 0.1;
  }
  EXPECT_LT(held, 150);
}

TEST(Route, NoThresholdWhereTheModelIsNeverSureEnough) {
  Scores scores = random_scores("small", 400, 3, 0);
  for (size_t i = 0; i < scores.rows.size(); i += 2) scores.rows[i].chosen = 0;
  const Threshold t = learn_then_test(sureness_of(scores, "margin"), scores.correct(), 0.1, 0.95);
  EXPECT_FALSE(t.at_least);
  EXPECT_EQ(t.served, 0);
}

TEST(Route, AModelThatIsAlwaysRightServesAll) {
  const Scores scores = random_scores("small", 400, 3, 0);
  const Threshold t = learn_then_test(sureness_of(scores, "entropy"), scores.correct(), 0.05, 0.95);
  ASSERT_TRUE(t.at_least);
  EXPECT_GT(t.served, t.test_rows * 9 / 10);
  EXPECT_EQ(t.wrong, 0);
  EXPECT_EQ(t.design_rows + t.test_rows, 400);
}

TEST(Route, CurveOfAPerfectScoreRecoversAllAtItsErrors) {
  // Four of ten are wrong and least sure; the large model is always right.
  const std::vector<double> sureness = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}, small = {0, 0, 0, 0, 1, 1, 1, 1, 1, 1}, large(10, 1);
  const RouteCurve curve = route_curve(sureness, small, large);
  EXPECT_DOUBLE_EQ(curve.small_quality, 0.6);
  EXPECT_DOUBLE_EQ(curve.large_quality, 1);
  EXPECT_DOUBLE_EQ(curve.cpt50, 0.2);
  EXPECT_DOUBLE_EQ(curve.cpt80, 0.4);
  EXPECT_NEAR(curve.apgr, 1 - 0.5 * 0.4, 1e-12);
  // One score for all is no routing: a straight line.
  const RouteCurve flat = route_curve(std::vector<double>(10, 0.5), small, large);
  EXPECT_EQ(flat.points.size(), 2u);
  EXPECT_NEAR(flat.apgr, 0.5, 1e-12);
  EXPECT_FALSE(route_curve(sureness, large, small).gap);
}

RouteConfig route_config() {
  RouteConfig config;
  config.error = 0.1;
  return config;
}

TEST(Route, RouterIsRefusedOnOtherModelsScores) {
  const Scores small = random_scores("small", 1000, 1, 0.5), large = random_scores("large", 1000, 2, 0.05);
  const Json router = make_router(small, large, route_config(), 0.02, 7);
  ASSERT_FALSE(router["rule"].is_null());
  EXPECT_LE(router["guarantee"]["p_value"].get<double>(), 0.05);
  EXPECT_LE(router["guarantee"]["error_bound"].get<double>(), 0.1 + 1e-9);
  EXPECT_NEAR(router["cost"]["routed_share_of_large"].get<double>(), 0.02 + router["expected"]["large_share"].get<double>(), 1e-12);
  EXPECT_FALSE(judge_router(router, "router.json", small, &large)["broken"].get<bool>());
  Scores other = small;
  other.header.model_sha256 = "another";
  EXPECT_THROW(judge_router(router, "router.json", other, nullptr), Error);
  EXPECT_THROW(judge_router(router, "router.json", small, &other), Error);
  EXPECT_THROW(judge_router(Json{{"format", "x"}}, "router.json", small, nullptr), Error);
  // The same model on requests that it handles worse: the promise is seen to be broken.
  Scores worse = random_scores("small", 1000, 9, 3.0);
  EXPECT_TRUE(judge_router(router, "router.json", worse, nullptr)["broken"].get<bool>());
}

TEST(Route, WhatCannotBeRoutedIsRefused) {
  const Scores small = random_scores("small", 100, 1, 0.5);
  Scores large = random_scores("large", 100, 2, 0.05);
  EXPECT_THROW(make_router(small, small, route_config(), 0, 0), Error);
  large.header.examples_sha256 = "others";
  EXPECT_THROW(make_router(small, large, route_config(), 0, 0), Error);
  EXPECT_THROW(sureness_of(small, "loudness"), Error);
  EXPECT_THROW(learn_then_test({0.5}, {1}, 0.1, 0.95), Error);
  EXPECT_THROW(learn_then_test(std::vector<double>(50, 0.5), std::vector<double>(50, 1), 0, 0.95), Error);
}

TEST(Scores, AFileComesBackAsItWas) {
  TestFolder folder;
  const fs::path place = score_file(folder.path(), "bank/77", "gguf");
  EXPECT_EQ(place.parent_path().filename(), "bank-77");
  make_folder(place.parent_path());
  ScoreWriter writer(place, {"gguf", "abc", "bank/77", "def", {"x", "y", "z"}});
  writer.add(example_score({0.7, 0.2, 0.1}, 0));
  writer.add(example_score({0.1, 0.5, 0.4}, 2));
  writer.commit();
  const Scores scores = read_scores(place);
  EXPECT_EQ(scores.header.labels, (std::vector<std::string>{"x", "y", "z"}));
  ASSERT_EQ(scores.rows.size(), 2u);
  EXPECT_EQ(scores.correct(), (std::vector<double>{1, 0}));
  EXPECT_NEAR(scores.rows[0].margin, 0.5, 1e-15);
  EXPECT_NEAR(scores.rows[0].entropy, -(0.7 * std::log(0.7) + 0.2 * std::log(0.2) + 0.1 * std::log(0.1)), 1e-15);
  EXPECT_NEAR(scores.rows[1].label_probability, 0.4, 1e-15);
  EXPECT_NEAR(scores.rows[1].brier, 0.01 + 0.25 + 0.36, 1e-15);
}

TEST(Scores, DamagedFilesAreRefusedWithTheirLine) {
  TestFolder folder;
  const fs::path file = folder.path() / "s.jsonl";
  const std::string head = R"({"format":"attar scores","version":1,"artifact":"a","model_sha256":"m","task":"t","examples_sha256":"e","labels":["x","y"]})";
  const std::string row = R"({"i":0,"label":0,"chosen":1,"max_probability":0.6,"margin":0.2,"entropy":0.6,"label_probability":0.4,"brier":0.72})";
  write_file(file, head + "\n" + row + "\n");
  EXPECT_EQ(read_scores(file).rows.size(), 1u);
  const auto broken = [&](const std::string& text) {
    write_file(file, text);
    try {
      read_scores(file);
    } catch (const Error& error) {
      return error.faults()[0].line();
    }
    return std::string();
  };
  EXPECT_NE(broken(""), "");
  EXPECT_NE(broken(row), "");
  EXPECT_NE(broken(head), "");
  EXPECT_NE(broken(head + "\n" + row + "\n" + row).find(":3"), std::string::npos);
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{{"\"chosen\":1", "\"chosen\":2"},
                                                                                 {"\"chosen\":1", "\"chosen\":-1"},
                                                                                 {"0.6,\"margin\"", "1.6,\"margin\""},
                                                                                 {"\"entropy\":0.6", "\"entropy\":null"},
                                                                                 {"{\"i\"", "[\"i\""}}) {
    std::string text = row;
    text.replace(text.find(from), from.size(), to);
    EXPECT_NE(broken(head + "\n" + text), "") << to;
  }
}

}  // namespace
}  // namespace attar
