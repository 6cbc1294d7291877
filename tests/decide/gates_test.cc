#include "decide/gates.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/check.h"
#include "decide/choice.h"

namespace attar {
namespace {

Json measured(double value, double low, double high) { return {{"value", value}, {"low", low}, {"high", high}, {"n", 400}}; }

Json two_artifacts() {
  return {{"big",
           {{"bytes", 1000},
            {"tasks", {{"t", {{"accuracy", measured(0.90, 0.87, 0.93)}}}}},
            {"kld", {{"mean", 0.0}, {"stderr", 0.0}}},
            {"perplexity", {{"value", 9.0}}}}},
          {"small",
           {{"bytes", 100},
            {"tasks", {{"t", {{"accuracy", measured(0.89, 0.86, 0.92)}}}}},
            {"kld", {{"mean", 0.04}, {"stderr", 0.004}}},
            {"perplexity", {{"value", 9.5}}}}}};
}

Gate gate(const std::string& path, std::optional<double> at_least, std::optional<double> at_most) {
  Gate g;
  g.path = path, g.limit.at_least = at_least, g.limit.at_most = at_most;
  return g;
}
Gate within(const std::string& path, const std::string& of, double margin, const std::string& family = "") {
  Gate g;
  g.path = path, g.family = family;
  g.limit.within = WithinConfig{of, margin};
  return g;
}

/// 400 examples: both right on all but `only_big` (the small one wrong) and `only_small`.
Scores scores_of(const std::string& name, int only_big, int only_small) {
  Scores s;
  s.header = {name, name, "t", "examples", {"a", "b"}};
  for (int i = 0; i < 400; ++i) {
    ExampleScore row;
    const bool big_wrong = i >= 100 && i < 100 + only_small, small_wrong = i < only_big;
    row.chosen = (name == "big" ? big_wrong : small_wrong) ? 1 : 0;
    row.label_probability = name == "big" ? 0.9 : 0.88;
    s.rows.push_back(row);
  }
  return s;
}

TEST(Gates, LimitsTestTheNumberItself) {
  const Json judged =
      judge_gates({gate("small.tasks.t.accuracy", 0.88, {}), gate("small.kld", {}, 0.03), gate("small.none", 1, {})}, two_artifacts(), nullptr);
  EXPECT_TRUE(judged[0]["passed"].get<bool>());
  EXPECT_FALSE(judged[1]["passed"].get<bool>());
  EXPECT_EQ(judged[1]["value"], 0.04);
  EXPECT_FALSE(judged[2]["passed"].get<bool>());
  EXPECT_EQ(judged[2]["note"], "not measured");
  EXPECT_FALSE(gates_passed(judged));
}

TEST(Gates, WithinLooksAtTheWholeInterval) {
  // A point lower with unpaired intervals of three points: two points of margin are not shown, six are.
  const auto passed = [](double margin, const ScoresOf& scores) {
    return judge_gates({within("small.tasks.t.accuracy", "big", margin)}, two_artifacts(), scores)[0]["passed"].get<bool>();
  };
  EXPECT_FALSE(passed(0.02, nullptr));
  EXPECT_TRUE(passed(0.06, nullptr));
  // Over the same examples, six against two discordant ones: the interval is narrower and three points are shown.
  const Scores big = scores_of("big", 6, 2), small = scores_of("small", 6, 2);
  const ScoresOf scores = [&](const std::string& id, const std::string&) { return id == "big" ? &big : &small; };
  EXPECT_TRUE(passed(0.03, scores));
  EXPECT_FALSE(passed(0.005, scores));
  const Json judged = judge_gates({within("small.tasks.t.accuracy", "big", 0.03)}, two_artifacts(), scores)[0];
  EXPECT_NEAR(judged["difference"]["value"].get<double>(), -0.01, 1e-12);
  EXPECT_EQ(judged["method"], "paired, Tango 1998");
  EXPECT_EQ(judged["difference"]["n"], 400);
}

TEST(Gates, WithinOfOtherExamplesIsNotPaired) {
  const Scores big = scores_of("big", 6, 2);
  Scores small = scores_of("small", 6, 2);
  small.header.examples_sha256 = "others";
  const ScoresOf scores = [&](const std::string& id, const std::string&) { return id == "big" ? &big : &small; };
  EXPECT_EQ(judge_gates({within("small.tasks.t.accuracy", "big", 0.06)}, two_artifacts(), scores)[0]["method"], "unpaired, Newcombe 1998");
}

TEST(Gates, WithinGoesTheRightWayRound) {
  // Of KL less is better: 0.04 +- 0.008 above.
  EXPECT_TRUE(judge_gates({within("small.kld", "big", 0.05)}, two_artifacts(), nullptr)[0]["passed"].get<bool>());
  EXPECT_FALSE(judge_gates({within("small.kld", "big", 0.045)}, two_artifacts(), nullptr)[0]["passed"].get<bool>());
  EXPECT_TRUE(judge_gates({within("big.kld", "small", 0)}, two_artifacts(), nullptr)[0]["passed"].get<bool>());
  // A size is exact; a perplexity without its error is refused.
  EXPECT_TRUE(judge_gates({within("small.bytes", "big", 0)}, two_artifacts(), nullptr)[0]["passed"].get<bool>());
  const Json judged = judge_gates({within("small.perplexity", "big", 5)}, two_artifacts(), nullptr)[0];
  EXPECT_FALSE(judged["passed"].get<bool>());
  EXPECT_EQ(judged["note"], "no interval is known for it");
}

TEST(Gates, OfASweepOneCandidateMustPassAll) {
  const Json artifacts = {{"g-a", {{"bytes", 10}, {"x", 1}}}, {"g-b", {{"bytes", 20}, {"x", 5}}}, {"g-c", {{"bytes", 30}, {"x", 9}}}};
  std::vector<Gate> gates;
  for (const char* id : {"g-a", "g-b", "g-c"}) {
    gates.push_back(gate(std::string(id) + ".x", 4, {}));
    gates.back().family = "g";
  }
  const Json judged = judge_gates(gates, artifacts, nullptr);
  EXPECT_TRUE(gates_passed(judged));
  const std::map<std::string, SweepCandidate> candidates = {
      {"g-a", {"g", {{"g.type", "a"}}}}, {"g-b", {"g", {{"g.type", "b"}}}}, {"g-c", {"g", {{"g.type", "c"}}}}};
  const Json decision = decide(artifacts, judged, candidates);
  EXPECT_EQ(decision["choice"], "g-b");
  EXPECT_EQ(decision["candidates"].size(), 3u);
  EXPECT_EQ(decision["candidates"][0]["passed"], false);
  // A gate of a single artifact still stands for all.
  gates.push_back(gate("g-c.bytes", {}, 1));
  EXPECT_FALSE(gates_passed(judge_gates(gates, artifacts, nullptr)));
  for (Gate& g : gates) g.limit.at_least = 100, g.limit.at_most = {};
  const Json none = judge_gates(gates, artifacts, nullptr);
  EXPECT_FALSE(gates_passed(none));
  EXPECT_TRUE(decide(artifacts, none, candidates)["choice"].is_null());
}

TEST(Choice, CandidatesOfSeveralSeedsStandTogether) {
  Json artifacts = Json::object();
  std::map<std::string, SweepCandidate> candidates;
  const std::vector<std::pair<std::string, std::vector<double>>> groups{{"f16", {0.80, 0.90, 0.85}}, {"q4_0", {0.70, 0.80, 0.75}}};
  for (const auto& [type, all] : groups)
    for (size_t seed = 0; seed < all.size(); ++seed) {
      const std::string id = str("g-", type, "-", seed);
      artifacts[id] = {{"bytes", 10}, {"tasks", {{"t", {{"accuracy", {{"value", all[seed]}, {"n", 100}}}}}}}};
      candidates[id] = {"g", {{"g.type", type}, {"s.seed", seed}}};
    }
  artifacts["alone"] = artifacts["g-f16-0"];
  candidates["alone"] = {"h", {{"s.seed", 1}}};
  const Json decision = decide(artifacts, Json::array(), candidates);
  EXPECT_EQ(decision["candidates"].size(), 7u);
  ASSERT_EQ(decision["seeds"].size(), 2u) << decision["seeds"];
  const Json& f16 = decision["seeds"][0];
  EXPECT_EQ(f16["values"], Json({{"g.type", "f16"}}));
  EXPECT_EQ(f16["quality"]["n"], 3);
  EXPECT_NEAR(f16["quality"]["value"].get<double>(), 0.85, 1e-12);
  EXPECT_NEAR(f16["deviation"].get<double>(), 0.05, 1e-12);
  // Student's t of two degrees of freedom, 4.302653, times 0.05 / sqrt(3).
  EXPECT_NEAR(f16["quality"]["high"].get<double>(), 0.85 + 4.302652729911275 * 0.05 / std::sqrt(3.0), 1e-9);
  EXPECT_EQ(f16["least"], 0.80);
  EXPECT_EQ(f16["most"], 0.90);
  EXPECT_EQ(decision["seeds"][1]["values"]["g.type"], "q4_0");
}

TEST(Choice, ParetoKeepsWhatNothingBeats) {
  EXPECT_EQ(pareto({{"a", 1, 5}, {"b", 2, 3}, {"c", 3, 4}, {"d", 4, 1}, {"e", 2, 3}}), (std::vector<std::string>{"a", "b", "d"}));
  EXPECT_EQ(pareto({{"a", 1, 1}, {"b", 1, 0}}), (std::vector<std::string>{"b"}));
  EXPECT_TRUE(pareto({}).empty());
}

TEST(Choice, FrontsOfSizeLatencyAndCost) {
  Json artifacts = two_artifacts();
  artifacts["big"]["latency"] = {{"tokens_per_s", {{"value", 100}}}};
  artifacts["small"]["latency"] = {{"tokens_per_s", {{"value", 50}}}};
  const Json decision = decide(artifacts, Json::array(), {});
  EXPECT_EQ(decision["fronts"]["size"], (Json{"small", "big"}));
  EXPECT_EQ(decision["fronts"]["latency"], Json::array({"big"}));
  EXPECT_FALSE(decision["fronts"].contains("cost"));
  EXPECT_EQ(decision["choice"], "small");
}

TEST(Gates, MetricsOfOtherKindsArePairedToo) {
  Json artifacts = two_artifacts();
  artifacts["big"]["tasks"]["t"]["rouge_l"] = measured(0.60, 0.57, 0.63);
  artifacts["small"]["tasks"]["t"]["rouge_l"] = measured(0.59, 0.56, 0.62);
  Scores big = scores_of("big", 6, 2), small = scores_of("small", 6, 2);
  for (Scores* s : {&big, &small}) {
    s->header.metrics = {"exact_match", "rouge_l"};
    for (size_t i = 0; i < s->rows.size(); ++i)
      s->rows[i].values = {s->rows[i].correct() ? 1.0 : 0.0, 0.4 + 0.001 * static_cast<double>(i) - (s == &small ? 0.01 : 0)};
  }
  const ScoresOf scores = [&](const std::string& id, const std::string&) { return id == "big" ? &big : &small; };
  // The same difference on every row: paired its interval is a point, unpaired it is six points wide.
  const NumberDifference paired = number_difference(artifacts, "small", "big", "tasks.t.rouge_l", scores);
  EXPECT_EQ(paired.method, "paired, Student");
  EXPECT_NEAR(paired.difference.value, -0.01, 1e-12);
  EXPECT_NEAR(paired.difference.high - paired.difference.low, 0, 1e-9);
  EXPECT_FALSE(judge_gates({within("small.tasks.t.rouge_l", "big", 0.02)}, artifacts, nullptr)[0]["passed"].get<bool>());
  EXPECT_TRUE(judge_gates({within("small.tasks.t.rouge_l", "big", 0.02)}, artifacts, scores)[0]["passed"].get<bool>());
  EXPECT_EQ(number_difference(artifacts, "small", "big", "tasks.t.accuracy", scores).method, "paired, Tango 1998");
  artifacts["big"]["tasks"]["t"]["exact_match"] = measured(0.9, 0.87, 0.93);
  artifacts["small"]["tasks"]["t"]["exact_match"] = measured(0.9, 0.87, 0.93);
  EXPECT_EQ(number_difference(artifacts, "small", "big", "tasks.t.exact_match", scores).method, "paired, Tango 1998");
}

}  // namespace
}  // namespace attar
