#pragma once
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "decide/intervals.h"
#include "decide/scores.h"
#include "spec/decide_configs.h"

namespace attar {

/// The value below `root` along a dotted path; null pointer where something is missing.
const Json* at_path(const Json& root, const std::string& path);

/// One gate of a recipe, on one artifact's number.
struct Gate {
  std::string path;        ///< below `artifacts` of the report
  GateConfig limit;
  std::string family;      ///< the swept stage that the recipe's gate names; empty: the gate is of one artifact
};

/// Scores of an artifact for a task, null pointer where none were kept.
using ScoresOf = std::function<const Scores*(const std::string& artifact, const std::string& task)>;

/// How a number of one artifact differs from the same number of another, with a 95% interval, and how that was found:
/// accuracy, brier and label_nll of a task over the same examples where scores of both are there (Tango's interval, Student's),
/// else by the two numbers' own intervals, else (bytes, parameters) exactly. `method` empty: a measured number without an interval.
struct NumberDifference {
  Difference difference;
  std::string method;
};
NumberDifference number_difference(const Json& artifacts, const std::string& artifact, const std::string& other, const std::string& key,
                                   const ScoresOf& scores);

/// Whether more of this number is better: shares and tokens/s; not errors, sizes, times, distances.
bool more_is_better(const std::string& key);

/// Every gate with the number it met: [{path, limit, value, passed}], with `within` also {of, difference {value, low, high}, method}; a number that
/// was not measured, or a difference without an interval, fails (`note` says so). `family` stands where a sweep gave the gate.
Json judge_gates(const std::vector<Gate>& gates, const Json& artifacts, const ScoresOf& scores);

/// Whether the run passes: every gate of single artifacts, and of each swept stage at least one candidate all of its gates.
bool gates_passed(const Json& judged);

}  // namespace attar
