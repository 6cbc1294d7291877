#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace attar {

/// A point of a trade-off: what is paid (bytes, seconds, money), how much is lost. Less of both is better.
struct Trade {
  std::string id;
  double paid = 0, lost = 0;
};
/// Ids that no other point beats in one and equals or beats in the other, cheapest first; of equal points the first by id.
std::vector<std::string> pareto(std::vector<Trade> points);

/// What a sweep made of a stage: the axes' values that gave the artifact.
struct SweepCandidate {
  std::string stage;   ///< the recipe's name for it
  Json values;         ///< {"student.model": "a.yaml", ...}
};

/// `decision` of report.json: {choice, choice_rule, fronts: {size, latency, cost}, candidates: [{artifact, stage, values, bytes, quality, passed}],
/// seeds: [{stage, values, quality: {value, low, high, n}, deviation, least, most}]}. seeds: candidates that differ in axes named STAGE.seed alone, two
/// or more, together: mean, Student's 95% interval, standard deviation; empty where there are none.
/// The choice is the smallest artifact with gates whose gates all hold (without gates: the smallest); among the candidates of a sweep where there is
/// one.
Json decide(const Json& artifacts, const Json& judged_gates, const std::map<std::string, SweepCandidate>& candidates);

}  // namespace attar
