#pragma once
#include <optional>
#include <string>
#include <vector>

#include "decide/scores.h"
#include "spec/decide_configs.h"

namespace attar {

/// How sure the model is of each example by a score's name (max_probability, margin, entropy, learned); higher is surer (entropy: negated). Error on
/// another name, or where no score was learned.
std::vector<double> sureness_of(const Scores& scores, const std::string& score);

/// The rows that routing by a score may use: by a learned one not those that it was fitted on. `like`: whose marks count. Error if none are left.
Scores routing_rows(const Scores& scores, const std::string& score, const Scores& like);

/// A threshold on sureness and what it was tested on.
struct Threshold {
  std::optional<double> at_least;      ///< the small model answers at this sureness or above; none: no threshold passed its test
  int64_t design_rows = 0, test_rows = 0;
  int64_t served = 0, wrong = 0;       ///< of the test rows at the threshold
  double p_value = 1, error_bound = 1; ///< exact, of the test rows; upper bound on the share of wrong answers at the same confidence
};

/// Loosest threshold whose share of wrong answers among those served is at most `error` with probability `confidence`: Learn-then-Test (Angelopoulos
/// et al. 2021, arXiv 2110.01052). A fifth of the rows, drawn by seed, chooses the thresholds (quantiles) and where to begin; the others test them
/// from there to looser ones with p = P(Binomial(served, error) <= wrong), stopping at the first p above 1 - confidence. Fixed sequence: no
/// correction is due.
Threshold learn_then_test(const std::vector<double>& sureness, const std::vector<double>& correct, double error, double confidence,
                          uint64_t seed = 0);

/// The system that sends its least sure requests to the large model, at one share of large calls.
struct RoutePoint {
  double sureness = 0;       ///< requests below go to the large model
  double large_share = 0, quality = 0;
  double recovered = 0;      ///< (quality - small's) / (large's - small's)
};
struct RouteCurve {
  double small_quality = 0, large_quality = 0;
  std::vector<RoutePoint> points;   ///< from no large calls to all, one point per distinct sureness
  bool gap = false;                 ///< the large model is the better one: what follows is defined
  double apgr = 0;                  ///< area under recovered over large_share; sending at random gives 0.5
  double cpt50 = 1, cpt80 = 1;      ///< least share of large calls that recovers 50%, 80%
};
/// `small`, `large`: 1 where right, per example.
RouteCurve route_curve(const std::vector<double>& sureness, const std::vector<double>& small, const std::vector<double>& large);

/// Everything of router.json (docs/decide.md). `small_cost`: share of a large call; 0: unknown.
Json make_router(const Scores& small, const Scores& large, const RouteConfig& config, double small_cost, uint64_t seed);

/// A router held against scores that were measured later: error on another model's scores, else what share is served, how much of that is wrong, and
/// whether that speaks against the guarantee (`broken`: exact one-sided p below 0.05). `large` may be missing.
Json judge_router(const Json& router, const std::string& name, const Scores& small, const Scores* large);

/// Words for the terminal.
std::string router_text(const Json& router);

}  // namespace attar
