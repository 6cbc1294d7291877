#pragma once
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace attar {

/// The value below `root` along a path of keys; null pointer where a key or an object is missing. A report may lack anything.
const Json* find_at(const Json& root, std::initializer_list<std::string_view> path);
const Json* find_at(const Json* root, std::initializer_list<std::string_view> path);

/// The JSON number that a value stands for: itself, or the "value" or "mean" of an object. Null pointer if there is none (or it is not finite).
const Json* number_of(const Json* value);
std::optional<double> double_of(const Json* value);
/// A string as it is, anything else as JSON, "" if missing or null.
std::string text_of(const Json* value);

/// Decimals independent of locale: fixed(0.95, 2) is "0.95".
std::string fixed(double value, int decimals);
/// `digits` significant digits, plain between 1e-4 and 1e15, else with an exponent: 0.00123, 6.64e-05.
std::string significant(double value, int digits);
/// 0.953 -> "95.3%".
std::string percent(double share, int decimals = 1);
/// 0.01 -> "+1.0 pts", with a true minus sign below zero.
std::string points(double difference);

/// How a task's metric reads: shares (accuracy, F1, recall ...) in percent, others (errors, scores) with three significant digits.
std::string shown_metric(const std::string& metric, double value);
bool is_share(const std::string& metric);

/// The task number that stands for an artifact's quality: its first task's first metric.
struct TaskMetric {
  std::string task, metric;
  const Json* measure = nullptr;  ///< {value, low, high, n}
};
std::optional<TaskMetric> main_metric(const Json& artifact);

/// The artifacts of a report, an empty object if there are none.
const Json& artifacts_of(const Json& report);
/// Id of the artifact that a gate's path speaks of: the longest id that the path begins with; "" if there is none.
std::string gate_artifact(const Json& report, const std::string& path);
/// A number of a gate (a limit, what was met): whole numbers whole, bytes with their unit unless that would hide on which side of its limit the value
/// lies, others with `digits` digits (0: all).
std::string gate_number(const Json& gate, double number, int digits = 0);
/// {"limit": {"at_least": 0.93}} -> "at least 0.93".
std::string limit_text(const Json& gate);

/// The report with what follows from it: artifacts.<id>.against_base, task_details.<task>.top_confusions, `summary` (base, the smallest artifact that
/// passes, Pareto front, exports' types) and `curves` of the logs. Everything that report.html shows stands in the result.
Json complete_report(const Json& report, const std::map<std::string, std::vector<Json>>& logs);

}  // namespace attar
