#include <algorithm>
#include <map>

#include "base/check.h"
#include "report/facts.h"
#include "report/terminal.h"

namespace attar {
namespace {

/// One column of the summary: its name, and what an artifact has there ("-" where nothing was measured).
struct SummaryColumn {
  std::string name;
  std::string (*cell)(const Json& artifact);
};

std::string with_error(const Json* measure, int digits) {
  const auto value = double_of(measure);
  if (!value) return "";
  const auto error = double_of(find_at(measure, {"stderr"}));
  return significant(*value, digits) + (error ? " ±" + significant(*error, 2) : "");
}

std::string metric_cell(const std::string& metric, const Json* measure) {
  if (!double_of(measure)) return "";
  std::string out = shown_metric(metric, *double_of(measure));
  const auto low = double_of(find_at(measure, {"low"})), high = double_of(find_at(measure, {"high"}));
  const auto end = [&](double value) { return is_share(metric) ? fixed(100 * value, 1) : significant(value, 3); };
  if (low && high) out += " [" + end(*low) + ", " + end(*high) + "]";
  return out;
}

std::string task_cell(const Json& artifact) {
  const auto main = main_metric(artifact);
  return main ? metric_cell(main->metric, main->measure) : "";
}

/// All metrics of the tasks that are no classifications: there no single one says enough.
std::string task_tables(const Json& report) {
  std::map<std::string, std::vector<std::string>> metrics;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json* tasks = find_at(artifact, {"tasks"});
    if (!tasks || !tasks->is_object()) continue;
    for (const auto& [task, measures] : tasks->items()) {
      const std::string kind = text_of(find_at(artifact, {"task_details", task, "kind"}));
      if (kind.empty() || kind == "classification" || !measures.is_object()) continue;
      for (const auto& [metric, measure] : measures.items())
        if (std::find(metrics[task].begin(), metrics[task].end(), metric) == metrics[task].end()) metrics[task].push_back(metric);
    }
  }
  std::string out;
  for (const auto& [task, names] : metrics) {
    std::vector<std::string> header = {task};
    header.insert(header.end(), names.begin(), names.end());
    std::vector<std::vector<std::string>> rows;
    for (const auto& [id, artifact] : artifacts_of(report).items()) {
      if (!find_at(artifact, {"tasks", task})) continue;
      rows.push_back({id});
      for (const std::string& metric : names) {
        const std::string cell = metric_cell(metric, find_at(artifact, {"tasks", task, metric}));
        rows.back().push_back(cell.empty() ? "-" : cell);
      }
    }
    out += "\n" + format_table(header, rows);
  }
  return out;
}

std::string metric_name(const Json& report) {
  for (const auto& [id, artifact] : artifacts_of(report).items())
    if (const auto main = main_metric(artifact)) return main->metric;
  return "task";
}

std::string plain(const Json& artifact, std::initializer_list<std::string_view> path, std::string (*show)(double)) {
  const auto value = double_of(find_at(artifact, path));
  return value ? show(*value) : "";
}

}  // namespace

std::string terminal_summary(const Json& report) {
  const Json& artifacts = artifacts_of(report);
  std::string out;
  if (const std::string verdict = text_of(find_at(report, {"verdict"})); !verdict.empty()) {
    const std::string name = text_of(find_at(report, {"name"}));
    out += (name.empty() ? "" : name + ": ") + (verdict == "pass" ? "pass, every gate is met" : verdict == "fail" ? "FAIL, a gate is not met"
        : verdict) + "\n\n";
  }
  const std::vector<SummaryColumn> columns = {
      {"size", [](const Json& a) { return plain(a, {"bytes"}, human_bytes); }},
      {"parameters", [](const Json& a) { return plain(a, {"parameters"}, human_count); }},
      {"bits/weight", [](const Json& a) { return plain(a, {"bits_per_weight"}, [](double v) { return fixed(v, 2); }); }},
      {metric_name(report), task_cell},
      {"perplexity", [](const Json& a) { return with_error(find_at(a, {"perplexity"}), 5); }},
      {"KL to base", [](const Json& a) { return with_error(find_at(a, {"kld"}), 3); }},
      {"top-1", [](const Json& a) { return plain(a, {"top1_agreement"}, [](double v) { return percent(v); }); }},
      {"by heart", [](const Json& a) { return plain(a, {"memorization", "trained"}, [](double v) { return percent(v); }); }},
      {"tokens/s", [](const Json& a) { return plain(a, {"latency", "tokens_per_s"}, [](double v) { return significant(v, 3); }); }},
  };
  std::vector<std::string> header = {"artifact"};
  std::vector<std::vector<std::string>> rows;
  for (const auto& [id, artifact] : artifacts.items()) rows.push_back({id});
  for (const SummaryColumn& column : columns) {
    std::vector<std::string> cells;
    bool any = false;
    for (const auto& [id, artifact] : artifacts.items()) {
      cells.push_back(column.cell(artifact));
      any = any || !cells.back().empty();
    }
    if (!any) continue;
    header.push_back(column.name);
    for (size_t r = 0; r < rows.size(); ++r) rows[r].push_back(cells[r].empty() ? "-" : cells[r]);
  }
  if (!rows.empty()) out += format_table(header, rows);
  out += task_tables(report);

  std::vector<std::vector<std::string>> gates;
  if (const Json* list = find_at(report, {"gates"}); list && list->is_array())
    for (const Json& gate : *list) {
      const auto value = double_of(find_at(gate, {"value"}));
      const Json* passed = find_at(gate, {"passed"});
      std::string shown = value ? gate_number(gate, *value, 4) : "not measured";
      const auto low = double_of(find_at(gate, {"difference", "low"})), high = double_of(find_at(gate, {"difference", "high"}));
      if (low && high) shown += ", difference [" + gate_number(gate, *low, 3) + ", " + gate_number(gate, *high, 3) + "]";
      if (const std::string note = text_of(find_at(gate, {"note"})); !note.empty() && value) shown += ", " + note;
      gates.push_back({text_of(find_at(gate, {"path"})), limit_text(gate), shown,
                       passed && passed->is_boolean() && passed->get<bool>() ? "met" : "NOT MET"});
    }
  if (!gates.empty()) out += "\n" + format_table({"gate", "limit", "value", ""}, gates);
  return out;
}

}  // namespace attar
