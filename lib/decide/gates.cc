#include "decide/gates.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/check.h"
#include "report/facts.h"

namespace attar {
namespace {

struct Ends {
  double low = 0, high = 0;
};

/// The 95% interval that stands with a number: its own ends, or 1.96 of its standard errors.
std::optional<Ends> ends_of(const Json& measure) {
  const auto value = double_of(&measure), low = double_of(find_at(measure, {"low"})), high = double_of(find_at(measure, {"high"})),
             error = double_of(find_at(measure, {"stderr"}));
  if (!value) return std::nullopt;
  if (low && high) return Ends{std::min(*low, *value), std::max(*high, *value)};
  if (error) return Ends{*value - 1.959963984540054 * *error, *value + 1.959963984540054 * *error};
  return std::nullopt;
}

/// tasks.NAME.METRIC; a task's name may hold dots.
bool task_metric(const std::string& key, std::string& task, std::string& metric) {
  const size_t last = key.rfind('.');
  if (!key.starts_with("tasks.") || last <= 6 || last == std::string::npos) return false;
  task = key.substr(6, last - 6), metric = key.substr(last + 1);
  return true;
}

/// A metric of each example: one that the file keeps, or one that follows from the labels' probabilities; nothing where it is no mean over examples.
std::optional<std::vector<double>> values_of_metric(const Scores& scores, const std::string& metric) {
  const auto kept = std::find(scores.header.metrics.begin(), scores.header.metrics.end(), metric);
  const auto number = static_cast<size_t>(kept - scores.header.metrics.begin());
  if (kept == scores.header.metrics.end() && metric != "accuracy" && metric != "brier" && metric != "label_nll") return std::nullopt;
  std::vector<double> out;
  for (const ExampleScore& row : scores.rows) {
    if (kept != scores.header.metrics.end()) out.push_back(row.values[number]);
    else if (metric == "accuracy") out.push_back(row.correct() ? 1 : 0);
    else out.push_back(metric == "brier" ? row.brier : -std::log(std::max(row.label_probability, 1e-300)));
  }
  return out;
}

/// Over the same examples, where both artifacts' scores are there and the metric is a mean over examples.
std::optional<NumberDifference> paired_difference(const std::string& artifact, const std::string& other, const std::string& key,
                                                  const ScoresOf& scores) {
  std::string task, metric;
  if (!scores || !task_metric(key, task, metric)) return std::nullopt;
  const Scores *a = scores(artifact, task), *b = scores(other, task);
  if (!a || !b || a->header.examples_sha256 != b->header.examples_sha256 || a->rows.size() != b->rows.size()) return std::nullopt;
  const auto own = values_of_metric(*a, metric), others = values_of_metric(*b, metric);
  if (!own || !others) return std::nullopt;
  const auto whole = [](double value) { return value == 0 || value == 1; };
  if (!std::all_of(own->begin(), own->end(), whole) || !std::all_of(others->begin(), others->end(), whole)) {
    if (own->size() < 2) return std::nullopt;
    return NumberDifference{paired_means(*own, *others), "paired, Student"};
  }
  int64_t only_a = 0, only_b = 0;
  for (size_t i = 0; i < own->size(); ++i) {
    only_a += (*own)[i] > (*others)[i];
    only_b += (*own)[i] < (*others)[i];
  }
  return NumberDifference{paired_proportions(only_a, only_b, static_cast<int64_t>(own->size())), "paired, Tango 1998"};
}

}  // namespace

const Json* at_path(const Json& root, const std::string& path) {
  const Json* at = &root;
  for (size_t begin = 0; begin <= path.size() && at;) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    at = at->is_object() && at->contains(part) ? &(*at)[part] : nullptr;
    begin = end + 1;
  }
  return at;
}

bool more_is_better(const std::string& key) {
  const std::string last = key.substr(key.rfind('.') + 1);
  return is_share(last) || last == "tokens_per_s" || last == "prompt_tokens_per_s" || last == "exact" || last == "rouge_l";
}

NumberDifference number_difference(const Json& artifacts, const std::string& artifact, const std::string& other, const std::string& key,
                                   const ScoresOf& scores) {
  const Json *own = at_path(artifacts, artifact + "." + key), *measure = at_path(artifacts, other + "." + key);
  const auto a = double_of(own), b = double_of(measure);
  if (!a || !b) return {};
  if (const auto paired = paired_difference(artifact, other, key, scores)) return *paired;
  const auto a_ends = ends_of(*own), b_ends = ends_of(*measure);
  if (a_ends && b_ends) return {unpaired_difference(*a, a_ends->low, a_ends->high, *b, b_ends->low, b_ends->high), "unpaired, Newcombe 1998"};
  // A size is counted, not measured: it has no interval and needs none.
  static const std::set<std::string> counted = {"bytes", "parameters", "bits_per_weight"};
  if (counted.count(key)) return {{*a - *b, *a - *b, *a - *b, 0}, "exact"};
  return {{*a - *b, -INFINITY, INFINITY, 0}, ""};
}

Json judge_gates(const std::vector<Gate>& gates, const Json& artifacts, const ScoresOf& scores) {
  Json out = Json::array();
  for (const Gate& gate : gates) {
    const auto value = double_of(at_path(artifacts, gate.path));
    Json limit = write_fields(gate.limit);
    if (!gate.limit.within) limit.erase("within");
    Json judged = {{"path", gate.path}, {"limit", std::move(limit)}, {"value", value ? Json(*value) : Json()}};
    bool held = value && (!gate.limit.at_least || *value >= *gate.limit.at_least) && (!gate.limit.at_most || *value <= *gate.limit.at_most);
    if (!value) judged["note"] = "not measured";
    if (value && gate.limit.within) {
      const size_t dot = gate.path.find('.');
      const std::string artifact = gate.path.substr(0, dot), key = dot == std::string::npos ? "" : gate.path.substr(dot + 1);
      const NumberDifference found = number_difference(artifacts, artifact, gate.limit.within->of, key, scores);
      const bool more = more_is_better(key);
      judged["of"] = gate.limit.within->of;
      judged["method"] = found.method.empty() ? Json() : Json(found.method);
      if (found.method.empty()) {
        judged["note"] = double_of(at_path(artifacts, gate.limit.within->of + "." + key)) ? "no interval is known for it"
                                                                                          : "not measured of " + gate.limit.within->of;
        held = false;
      } else {
        judged["difference"] = {{"value", found.difference.value}, {"low", found.difference.low}, {"high", found.difference.high}};
        if (found.difference.n) judged["difference"]["n"] = found.difference.n;
        held = held && (more ? found.difference.low >= -gate.limit.within->margin : found.difference.high <= gate.limit.within->margin);
      }
    }
    judged["passed"] = held;
    if (!gate.family.empty()) judged["family"] = gate.family;
    out.push_back(std::move(judged));
  }
  return out;
}

bool gates_passed(const Json& judged) {
  std::map<std::string, std::map<std::string, bool>> families;  // swept stage -> artifact -> all of its gates
  bool all = true;
  for (const Json& gate : judged) {
    const bool held = gate.value("passed", false);
    const std::string family = gate.value("family", "");
    if (family.empty()) {
      all = all && held;
      continue;
    }
    const std::string path = gate.value("path", "");
    bool& whole = families[family].try_emplace(path.substr(0, path.find('.')), true).first->second;
    whole = whole && held;
  }
  for (const auto& [family, candidates] : families)
    all = all && std::any_of(candidates.begin(), candidates.end(), [](const auto& candidate) { return candidate.second; });
  return all;
}

}  // namespace attar
