#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <tuple>

#include "report/facts.h"

namespace attar {
namespace {

/// Six significant digits: what a curve shows, in a tenth of the bytes.
double rounded(double value) {
  if (!std::isfinite(value)) return 0;
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 6);
  double out = 0;
  std::from_chars(text, end.ptr, out);
  return out;
}

struct CurvePoint {
  double step, value;
};

/// [[step, value]...] of at most 240 points: means over equal runs of steps, so that nothing is left out.
Json thinned(const std::vector<CurvePoint>& curve) {
  constexpr size_t kMostPoints = 240;
  const size_t run = (curve.size() + kMostPoints - 1) / kMostPoints;
  Json out = Json::array();
  for (size_t first = 0; first < curve.size(); first += run) {
    const size_t end = std::min(first + run, curve.size());
    double step = 0, value = 0;
    for (size_t i = first; i < end; ++i) step += curve[i].step, value += curve[i].value;
    const double n = static_cast<double>(end - first);
    out.push_back({rounded(step / n), rounded(value / n)});
  }
  return out;
}

std::vector<CurvePoint> curve_of(const std::vector<Json>& log, std::string_view key) {
  std::vector<CurvePoint> out;
  for (const Json& line : log) {
    const auto step = double_of(find_at(line, {"step"})), value = double_of(find_at(line, {key}));
    if (step && value) out.push_back({*step, *value});
  }
  return out;
}

/// Curves of one training: the loss that was learned from, and every named term with its held-out twin.
Json curves_of(const std::vector<Json>& log) {
  Json out = Json::array();
  const auto add = [&](const char* name, const char* key, bool held_out) {
    const auto curve = curve_of(log, key);
    if (!curve.empty()) out.push_back({{"name", name}, {"held_out", held_out}, {"points", thinned(curve)}});
  };
  const bool teacher = !curve_of(log, "teacher").empty();
  if (teacher) {
    add("loss against the teacher", "teacher", false);
    add("loss against the teacher, held out", "held_out_teacher", true);
  }
  // With a teacher cross-entropy says how the answers fare; without one it is the loss.
  if (!curve_of(log, "held_out_ce").empty() || teacher) {
    add("cross-entropy", "ce", false);
    add("cross-entropy, held out", "held_out_ce", true);
  } else {
    add("loss", "loss", false);
    add("loss, held out", "held_out_loss", true);
  }
  return out;
}

std::optional<double> ratio(const Json* above, const Json* below) {
  const auto a = double_of(above), b = double_of(below);
  return a && b && *b != 0 ? std::optional<double>(*a / *b) : std::nullopt;
}

/// What an artifact costs and gives against the base.
Json against(const Json& artifact, const Json& base, const std::string& base_id) {
  Json out = {{"base", base_id}};
  const auto put = [&](const char* name, std::optional<double> value) {
    if (value && std::isfinite(*value)) out[name] = *value;
  };
  const auto part = [&](std::initializer_list<std::string_view> path) { return std::pair(find_at(artifact, path), find_at(base, path)); };
  const auto [bytes, base_bytes] = part({"bytes"});
  put("times_smaller", ratio(base_bytes, bytes));
  put("bytes_share", ratio(bytes, base_bytes));
  const auto [parameters, base_parameters] = part({"parameters"});
  put("parameters_share", ratio(parameters, base_parameters));
  const auto [speed, base_speed] = part({"latency", "tokens_per_s"});
  put("times_faster", ratio(speed, base_speed));
  const auto [perplexity, base_perplexity] = part({"perplexity"});
  put("perplexity_ratio", ratio(perplexity, base_perplexity));
  const auto main = main_metric(artifact), base_main = main_metric(base);
  if (main && base_main && main->task == base_main->task && main->metric == base_main->metric) {
    Json difference = {{"task", main->task}, {"metric", main->metric}, {"value", *double_of(main->measure) - *double_of(base_main->measure)}};
    const Json* paired = find_at(artifact, {"comparison", "differences", main->metric});
    // A report without `differences` has that of accuracy alone.
    if (!paired && main->metric == "accuracy") paired = find_at(artifact, {"comparison", "accuracy_difference"});
    if (text_of(find_at(artifact, {"comparison", "against"})) == base_id && number_of(paired)) {
      difference["value"] = *number_of(paired);
      for (const char* end : {"low", "high"})
        if (const Json* value = number_of(find_at(paired, {end}))) difference[end] = *value;
    }
    out["difference"] = std::move(difference);
  }
  return out;
}

/// The most frequent confusions, most frequent first.
Json top_confusions(const Json& details) {
  constexpr size_t kMost = 20;
  const Json *labels = find_at(details, {"labels"}), *confusion = find_at(details, {"confusion"});
  if (!labels || !labels->is_array() || !confusion || !confusion->is_array() || confusion->size() != labels->size()) return Json::array();
  std::vector<std::tuple<double, size_t, size_t>> found;
  std::vector<double> totals(labels->size(), 0);
  for (size_t truth = 0; truth < confusion->size(); ++truth) {
    const Json& row = (*confusion)[truth];
    if (!row.is_array() || row.size() != labels->size()) return Json::array();
    for (size_t predicted = 0; predicted < row.size(); ++predicted) {
      const double count = double_of(&row[predicted]).value_or(0);
      totals[truth] += count;
      if (truth != predicted && count > 0) found.push_back({-count, truth, predicted});
    }
  }
  std::sort(found.begin(), found.end());
  Json out = Json::array();
  for (size_t i = 0; i < std::min(found.size(), kMost); ++i) {
    const auto [count, truth, predicted] = found[i];
    out.push_back({{"truth", (*labels)[truth]}, {"predicted", (*labels)[predicted]}, {"count", static_cast<int64_t>(-count)},
                   {"of", static_cast<int64_t>(totals[truth])}});
  }
  return out;
}

/// Ids that nothing else beats in both bytes and quality, smallest first.
Json pareto_front(const Json& artifacts) {
  std::vector<std::tuple<double, double, std::string>> all;
  for (const auto& [id, artifact] : artifacts.items()) {
    const auto bytes = double_of(find_at(artifact, {"bytes"}));
    const auto main = main_metric(artifact);
    if (!bytes) continue;
    if (main) all.push_back({*bytes, is_share(main->metric) ? -*double_of(main->measure) : *double_of(main->measure), id});
    else if (const auto perplexity = double_of(find_at(artifact, {"perplexity"}))) all.push_back({*bytes, *perplexity, id});
  }
  std::sort(all.begin(), all.end());
  Json out = Json::array();
  double best = INFINITY;
  for (const auto& [bytes, loss, id] : all)
    if (loss < best) out.push_back(id), best = loss;
  return out;
}

/// The smallest artifact whose own gates all hold; without gates the smallest of all.
void choose(const Json& report, Json& summary) {
  const Json& artifacts = artifacts_of(report);
  std::set<std::string> gated, failed;
  if (const Json* gates = find_at(report, {"gates"}); gates && gates->is_array())
    for (const Json& gate : *gates) {
      const std::string id = gate_artifact(report, text_of(find_at(gate, {"path"})));
      const Json* passed = find_at(gate, {"passed"});
      gated.insert(id);
      if (!passed || !passed->is_boolean() || !passed->get<bool>()) failed.insert(id);
    }
  const Json* smallest = nullptr;
  std::string chosen;
  for (const auto& [id, artifact] : artifacts.items()) {
    const Json* bytes = number_of(find_at(artifact, {"bytes"}));
    if (!bytes || (!gated.empty() && (!gated.count(id) || failed.count(id)))) continue;
    if (!smallest || bytes->get<double>() < smallest->get<double>()) smallest = bytes, chosen = id;
  }
  summary["choice"] = chosen.empty() ? Json() : Json(chosen);
  summary["choice_rule"] = gated.empty() ? "the smallest artifact; the recipe sets no gates"
      : "the smallest artifact with gates that meets all of its own";
}

/// Types of an export's tensors: how many, and their bytes.
Json tensor_types(const Json& tensors) {
  Json out = Json::array();
  for (const Json& tensor : tensors) {
    const std::string type = text_of(find_at(tensor, {"type"}));
    auto found = std::find_if(out.begin(), out.end(), [&](const Json& entry) { return entry["type"] == type; });
    if (found == out.end()) {
      out.push_back({{"type", type}, {"tensors", 0}, {"bytes", 0}});
      found = std::prev(out.end());
    }
    (*found)["tensors"] = (*found)["tensors"].get<int64_t>() + 1;
    (*found)["bytes"] = (*found)["bytes"].get<int64_t>() + static_cast<int64_t>(double_of(find_at(tensor, {"bytes"})).value_or(0));
  }
  return out;
}

}  // namespace

Json complete_report(const Json& report, const std::map<std::string, std::vector<Json>>& logs) {
  Json out = report.is_object() ? report : Json::object();
  const std::string base_id = text_of(find_at(out, {"base"}));
  const Json* base = find_at(artifacts_of(out), {base_id});
  const Json base_copy = base ? *base : Json();
  if (artifacts_of(out).empty()) out["artifacts"] = Json::object();
  for (auto& [id, artifact] : out["artifacts"].items()) {
    if (!artifact.is_object()) continue;
    artifact.erase("against_base");
    if (base && id != base_id) artifact["against_base"] = against(artifact, base_copy, base_id);
    if (find_at(artifact, {"task_details"}) && artifact["task_details"].is_object())
      for (auto& [task, details] : artifact["task_details"].items())
        if (details.is_object()) details["top_confusions"] = top_confusions(details);
  }
  Json summary = {{"base", base ? Json(base_id) : Json()}};
  choose(out, summary);
  // What was decided with the sweep in view stands.
  if (const Json* choice = find_at(out, {"decision", "choice"})) {
    summary["choice"] = *choice;
    summary["choice_rule"] = text_of(find_at(out, {"decision", "choice_rule"}));
  }
  for (const auto& [id, artifact] : artifacts_of(out).items())
    if (const auto main = main_metric(artifact)) {
      summary["task"] = main->task, summary["metric"] = main->metric;
      break;
    }
  summary["pareto"] = pareto_front(artifacts_of(out));
  Json exports = Json::object();
  if (const Json* lineage = find_at(out, {"lineage"}); lineage && lineage->is_object())
    for (const auto& [id, stage] : lineage->items())
      if (const Json* tensors = find_at(stage, {"facts", "tensors"}); tensors && tensors->is_array()
          && !tensors->empty()) exports[id] = tensor_types(*tensors);
  summary["tensor_types"] = std::move(exports);
  out["summary"] = std::move(summary);
  // Logs may have been cleaned away since the curves were drawn: those stay.
  const Json* kept = find_at(out, {"curves"});
  Json curves = kept && kept->is_object() ? *kept : Json::object();
  for (const auto& [id, log] : logs)
    if (Json drawn = curves_of(log); !drawn.empty()) curves[id] = std::move(drawn);
  Json sorted = Json::object();
  if (const Json* lineage = find_at(out, {"lineage"}); lineage && lineage->is_object())
    for (const auto& [id, stage] : lineage->items())
      if (curves.contains(id)) sorted[id] = curves[id];
  sorted.update(curves);
  out["curves"] = std::move(sorted);
  return out;
}

}  // namespace attar
