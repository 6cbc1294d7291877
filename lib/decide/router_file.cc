// router.json: made, shown, and held against later scores.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/check.h"
#include "decide/intervals.h"
#include "decide/route.h"
#include "report/report.h"
#include "report/terminal.h"

namespace attar {
namespace {

constexpr const char* kRouterFormat = "attar router";
constexpr int64_t kRouterVersion = 1;
constexpr double kDoubt = 0.05;

Json model_json(const Scores& scores) {
  const auto correct = scores.correct();
  double right = 0;
  for (const double c : correct) right += c;
  const Interval interval = wilson_interval(static_cast<int64_t>(right), static_cast<int64_t>(correct.size()));
  return {
      {"artifact", scores.header.artifact},
      {"sha256", scores.header.model_sha256},
      {"scores_sha256", scores.file_sha256},
      {"accuracy", {{"value", right / static_cast<double>(correct.size())}, {"low", interval.low}, {"high", interval.high}, {"n", correct.size()}}}};
}

/// The user's rule: entropy falls as sureness rises.
Json rule_json(const std::string& score, const std::optional<double>& at_least) {
  if (!at_least) return Json();
  return score == "entropy" ? Json{{"score", score}, {"at_most", -*at_least}} : Json{{"score", score}, {"at_least", *at_least}};
}

/// At most 101 points: those nearest to each hundredth of large calls.
Json curve_json(const RouteCurve& curve, const std::string& score, double small_cost) {
  Json out = Json::array();
  size_t at = 0;
  for (int percent = 0; percent <= 100; ++percent) {
    const size_t before = at;
    while (at + 1 < curve.points.size() && curve.points[at].large_share < percent / 100.0 - 1e-12) ++at;
    if (percent > 0 && at == before) continue;
    const RoutePoint& p = curve.points[at];
    Json point = {
        {"large_share", p.large_share},
        {"quality", p.quality},
        {"recovered", curve.gap ? Json(p.recovered) : Json()},
        {score == "entropy" ? "at_most" : "at_least", std::isfinite(p.sureness) ? Json(score == "entropy" ? -p.sureness : p.sureness) : Json()}};
    if (small_cost > 0) point["cost_share"] = small_cost + p.large_share;
    out.push_back(std::move(point));
  }
  return out;
}

std::string percent_text(double share) {
  std::ostringstream out;
  out.precision(1);
  out << std::fixed << 100 * share << "%";
  return out.str();
}

/// A threshold on one learned score says nothing of another's numbers.
void same_learned_score(const Json& router, const std::string& name, const Scores& scores) {
  const Json learned = get<Json>(router, "learned", name);
  for (const char* key : {"of", "weights", "bias"})
    check(scores.header.learned.is_object() && learned.contains(key) && scores.header.learned.value(key, Json()) == learned[key],
          "scores of " + scores.header.artifact + ": learned", "the router's own learned score", "another, or none",
          "evaluate with learned_score: " + name);
}

}  // namespace

Json make_router(const Scores& all_small, const Scores& all_large, const RouteConfig& config, double small_cost, uint64_t seed) {
  check_paired(all_small, all_large);
  const Scores small = routing_rows(all_small, config.score, all_small), large = routing_rows(all_large, config.score, all_small);
  check(small.header.model_sha256 != large.header.model_sha256, "large", "another model than the small one", large.header.artifact);
  check(small_cost >= 0 && small_cost < 1e6, "small_cost", "0 or more", str(small_cost));
  const auto sureness = sureness_of(small, config.score), small_right = small.correct(), large_right = large.correct();
  const Threshold threshold = learn_then_test(sureness, small_right, config.error, config.confidence, seed);
  const RouteCurve curve = route_curve(sureness, small_right, large_right);
  double sent = 0, right = 0;
  for (size_t i = 0; i < sureness.size(); ++i) {
    const bool own = threshold.at_least && sureness[i] >= *threshold.at_least;
    sent += own ? 0 : 1;
    right += own ? small_right[i] : large_right[i];
  }
  const double n = static_cast<double>(sureness.size()), large_share = sent / n;
  const Interval interval = wilson_interval(static_cast<int64_t>(right), static_cast<int64_t>(sureness.size()));
  Json out = {{"format", kRouterFormat},
              {"version", kRouterVersion},
              {"task", small.header.task},
              {"labels", small.header.labels},
              {"small", model_json(small)},
              {"large", model_json(large)},
              {"examples_sha256", small.header.examples_sha256},
              {"score", config.score},
              {"rule", rule_json(config.score, threshold.at_least)},
              {"guarantee",
               {{"error", config.error},
                {"confidence", config.confidence},
                {"method", "Learn-then-Test, exact binomial"},
                {"design_rows", threshold.design_rows},
                {"test_rows", threshold.test_rows},
                {"served", threshold.served},
                {"wrong", threshold.wrong},
                {"p_value", threshold.p_value},
                {"error_bound", threshold.error_bound},
                {"seed", seed}}},
              {"expected",
               {{"large_share", large_share},
                {"quality", {{"value", right / n}, {"low", interval.low}, {"high", interval.high}, {"n", sureness.size()}}},
                {"small_only", curve.small_quality},
                {"large_only", curve.large_quality}}},
              {"apgr", curve.gap ? Json(curve.apgr) : Json()},
              {"cpt50", curve.gap ? Json(curve.cpt50) : Json()},
              {"cpt80", curve.gap ? Json(curve.cpt80) : Json()}};
  if (config.score == "learned") out["learned"] = small.header.learned;
  if (small_cost > 0) {
    // A cascade pays the small model on every request, also on those that it hands on.
    out["cost"] = {{"small_share_of_large", small_cost},
                   {"routed_share_of_large", small_cost + large_share},
                   {"break_even_large_share", std::max(0.0, 1 - small_cost)},
                   {"saves", small_cost + large_share < 1}};
  }
  out["curve"] = curve_json(curve, config.score, small_cost);
  return out;
}

Json judge_router(const Json& router, const std::string& name, const Scores& all_small, const Scores* all_large) {
  check(router.is_object() && router.value("format", Json()) == kRouterFormat, name, "a router.json of attar route", "something else");
  check(router.value("version", Json()) == kRouterVersion, name, str("version ", kRouterVersion), to_line(router.value("version", Json())));
  const auto same = [&](const char* who, const Scores& scores) {
    const Json& model = get<Json>(router, who, name);
    const auto hash = get<std::string>(model, "sha256", name);
    check(hash == scores.header.model_sha256, str("scores of ", scores.header.artifact),
          "those of the router's " + std::string(who) + " model, SHA-256 " + hash.substr(0, 16), scores.header.model_sha256.substr(0, 16),
          "a threshold holds for the model that it was chosen on; make a new router");
  };
  same("small", all_small);
  if (all_large) same("large", *all_large), check_paired(all_small, *all_large);
  check(get<std::string>(router, "task", name) == all_small.header.task, "scores of " + all_small.header.artifact,
        "task " + get<std::string>(router, "task", name), all_small.header.task);
  const auto score = get<std::string>(router, "score", name);
  if (score == "learned") same_learned_score(router, name, all_small);
  const Scores small = routing_rows(all_small, score, all_small);
  std::optional<Scores> large;
  if (all_large) large = routing_rows(*all_large, score, all_small);
  const auto sureness = sureness_of(small, score);
  const Json rule = get<Json>(router, "rule", name);
  std::optional<double> threshold;
  if (rule.is_object()) threshold = score == "entropy" ? -get<double>(rule, "at_most", name) : get<double>(rule, "at_least", name);
  const Json guarantee = get<Json>(router, "guarantee", name);
  const double error = get<double>(guarantee, "error", name);
  int64_t served = 0, wrong = 0;
  double right = 0;
  for (size_t i = 0; i < sureness.size(); ++i) {
    const bool own = threshold && sureness[i] >= *threshold;
    served += own, wrong += own && !small.rows[i].correct();
    if (large) right += own ? small.rows[i].correct() : large->rows[i].correct();
  }
  const double n = static_cast<double>(sureness.size());
  // The chance of so many wrong answers or more if the guarantee just held.
  const double p = served == 0 ? 1 : 1 - binomial_tail(wrong - 1, served, error);
  Json out = {{"rule", rule},
              {"rows", sureness.size()},
              {"served", served},
              {"wrong", wrong},
              {"served_share", static_cast<double>(served) / n},
              {"error", served ? Json(static_cast<double>(wrong) / static_cast<double>(served)) : Json()},
              {"error_allowed", error},
              {"p_value", p},
              {"broken", p < kDoubt}};
  if (large) out["quality"] = right / n;
  return out;
}

std::string router_text(const Json& router) {
  const Json &guarantee = router["guarantee"], &expected = router["expected"], &rule = router["rule"];
  std::string out;
  const auto text = [](const Json& value) { return value.is_number_float() ? str(value.get<double>()) : to_line(value); };
  if (rule.is_null()) {
    out = "no threshold: the small model is nowhere sure enough that at most " + percent_text(guarantee["error"]) +
          " of its answers are wrong; send every request to " + router["large"]["artifact"].get<std::string>() + "\n";
  } else {
    out = router["small"]["artifact"].get<std::string>() + " answers where " + rule["score"].get<std::string>() +
          (rule.contains("at_least") ? " is at least " + text(rule["at_least"]) : " is at most " + text(rule["at_most"])) + ", " +
          router["large"]["artifact"].get<std::string>() + " the rest (" + percent_text(expected["large_share"]) + ")\n" + "of its answers at most " +
          percent_text(guarantee["error"]) + " are wrong, with confidence " + percent_text(guarantee["confidence"]) + ": " +
          text(guarantee["wrong"]) + " of " + text(guarantee["served"]) + " were, p = " + text(guarantee["p_value"]) + "\n";
  }
  std::vector<std::vector<std::string>> rows = {{"small alone", percent_text(expected["small_only"])},
                                                {"routed", percent_text(expected["quality"]["value"])},
                                                {"large alone", percent_text(expected["large_only"])}};
  if (!router["apgr"].is_null()) {
    rows.push_back({"area of gap recovered (random: 50%)", percent_text(router["apgr"])});
    rows.push_back({"large calls for half of the gap", percent_text(router["cpt50"])});
    rows.push_back({"large calls for 80% of the gap", percent_text(router["cpt80"])});
  }
  if (router.contains("cost")) {
    rows.push_back({"cost, of sending all to the large model", percent_text(router["cost"]["routed_share_of_large"])});
    rows.push_back({"routing pays below large calls of", percent_text(router["cost"]["break_even_large_share"])});
  }
  return out + format_table({"quality and cost", ""}, rows);
}

}  // namespace attar
