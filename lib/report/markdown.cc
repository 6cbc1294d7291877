#include <algorithm>
#include <cctype>

#include "base/check.h"
#include "base/utf8.h"
#include "report/facts.h"
#include "report/html.h"
#include "report/markdown.h"

namespace attar {
namespace {

/// A YAML string in double quotes; JSON's spelling of strings is YAML's too.
std::string yaml_string(const std::string& text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

bool is_plain_identifier(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '-'; });
}

/// A fenced block whose fence is longer than any run of backticks in it.
std::string fenced(const std::string& language, const std::string& code) {
  size_t longest = 0, run = 0;
  for (const char c : code) run = c == '`' ? run + 1 : 0, longest = std::max(longest, run);
  const std::string fence(std::max<size_t>(3, longest + 1), '`');
  return fence + language + "\n" + code + (code.ends_with("\n") ? "" : "\n") + fence + "\n";
}

std::vector<std::string> tags_of(const Json& report) {
  std::vector<std::string> tags = {"attar"};
  const auto add = [&](const std::string& tag) {
    if (std::find(tags.begin(), tags.end(), tag) == tags.end()) tags.push_back(tag);
  };
  if (const Json* lineage = find_at(report, {"lineage"}); lineage && lineage->is_object())
    for (const auto& [id, stage] : lineage->items()) {
      const std::string kind = text_of(find_at(stage, {"kind"})), format = text_of(find_at(stage, {"facts", "format"}));
      if (kind == "distill") add("distillation");
      if (kind == "prune") add("pruning");
      if (kind == "quantize") add("quantization");
      if (format == "gguf") add("gguf"), add("llama.cpp");
      if (format == "onnx") add("onnx");
    }
  return tags;
}

/// A task's kind in the model hub's words.
std::string task_type(const Json& artifact, const std::string& task) {
  const std::string kind = text_of(find_at(artifact, {"task_details", task, "kind"}));
  return kind.empty() || kind == "classification" ? "text-classification" : kind == "multiple_choice" ? "multiple-choice" : "text-generation";
}

std::string front_matter(const Json& report) {
  std::string license = text_of(find_at(report, {"license"}));
  std::string lower = license;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::string out = "---\n";
  if (license.empty()) out += "license: unknown\n";
  else if (is_plain_identifier(license)) out += "license: " + lower + "\n";
  else out += "license: other\nlicense_name: " + yaml_string(license) + "\n";
  if (const std::string base = text_of(find_at(report, {"base_model"})); !base.empty()) out += "base_model: " + yaml_string(base) + "\n";
  out += "pipeline_tag: text-generation\ntags:\n";
  for (const std::string& tag : tags_of(report)) out += "- " + tag + "\n";
  const std::string choice = text_of(find_at(report, {"summary", "choice"}));
  const Json* artifact = choice.empty() ? nullptr : find_at(artifacts_of(report), {choice});
  if (const auto main = artifact ? main_metric(*artifact) : std::nullopt) {
    const std::string name = text_of(find_at(report, {"name"}));
    out += "model-index:\n- name: " + yaml_string(name.empty() ? choice : name)
        + "\n  results:\n  - task:\n      type: " + task_type(*artifact, main->task) + "\n    dataset:\n      type: " + yaml_string(main->task) +
           "\n      name: " + yaml_string(main->task) + "\n    metrics:\n    - type: " + yaml_string(main->metric) + "\n      value: "
               + to_line(*number_of(main->measure)) + "\n";
  }
  return out + "---\n";
}

std::string row_text(const std::vector<std::string>& cells) {
  std::string out = "|";
  for (const std::string& cell : cells) out += " " + cell + " |";
  return out + "\n";
}

std::string measured(const Json* measure, int digits) {
  const auto value = double_of(measure), error = double_of(find_at(measure, {"stderr"}));
  return value ? significant(*value, digits) + (error ? " ± " + significant(*error, 2) : "") : "–";
}

}  // namespace

std::string escape_markdown(const std::string& text) {
  std::string out;
  for (const char c : one_line(text)) {
    if (std::string_view("\\`*_{}[]<>#|~$").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string markdown_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::string> rule(header.size(), "--:");
  if (!rule.empty()) rule[0] = ":--";
  std::string out = row_text(header) + row_text(rule);
  for (const auto& row : rows) out += row_text(row);
  return out;
}

std::string report_markdown(const Json& report) {
  const std::string name = text_of(find_at(report, {"name"})), verdict = text_of(find_at(report, {"verdict"})), base = text_of(find_at(report,
      {"summary", "base"}));
  const std::string choice = text_of(find_at(report, {"summary", "choice"})), metric = text_of(find_at(report, {"summary", "metric"}));
  std::string out = front_matter(report) + "\n# " + escape_markdown(name.empty() ? "attar report" : name) + "\n\n";
  if (!verdict.empty()) out += "**" + std::string(verdict == "pass" ? "Pass: every gate is met." : verdict == "fail" ? "Fail: a gate is not met."
      : escape_markdown(verdict)) + "**";
  const Json* chosen = choice.empty() ? nullptr : find_at(artifacts_of(report), {choice});
  if (chosen) {
    out += " *" + escape_markdown(choice) + "* is " + escape_markdown(text_of(find_at(report, {"summary", "choice_rule"})));
    if (const auto bytes = double_of(find_at(*chosen, {"bytes"}))) out += ": " + human_bytes(*bytes);
    if (const auto smaller = double_of(find_at(*chosen, {"against_base", "times_smaller"}))) out += ", " + significant(*smaller, 3)
        + " times smaller than *" + escape_markdown(base) + "*";
    if (const auto difference = double_of(find_at(*chosen, {"against_base", "difference"}))) {
      const std::string shown = is_share(metric) ? points(*difference) : significant(*difference, 3);
      out += ", " + escape_markdown(metric) + " " + shown;
    }
    out += ".";
  }
  out += "\n\n## Results\n\n";
  const bool scored = !metric.empty();
  std::vector<std::string> header = {"artifact", "size", "parameters", "bits/weight"};
  if (scored) header.push_back(escape_markdown(metric) + " (95%)");
  for (const char* title : {"perplexity", "KL to base", "same top token", "tokens/s"}) header.push_back(title);
  out += row_text(header);
  std::vector<std::string> rule(header.size(), "--:");
  rule[0] = ":--";
  out += row_text(rule);
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const auto plain = [&](std::initializer_list<std::string_view> path, const auto& show) {
      const auto value = double_of(find_at(artifact, path));
      return value ? show(*value) : std::string("–");
    };
    std::vector<std::string> row = {escape_markdown(id), plain({"bytes"}, human_bytes), plain({"parameters"}, human_count),
        plain({"bits_per_weight"}, [](double v) { return fixed(v, 2); })};
    if (scored) {
      std::string cell = "–";
      if (const auto main = main_metric(artifact)) {
        cell = shown_metric(main->metric, *double_of(main->measure));
        const auto low = double_of(find_at(main->measure, {"low"})), high = double_of(find_at(main->measure, {"high"}));
        if (low && high) cell += " (" + shown_metric(main->metric, *low) + " to " + shown_metric(main->metric, *high) + ")";
      }
      row.push_back(cell);
    }
    row.push_back(measured(find_at(artifact, {"perplexity"}), 5));
    row.push_back(measured(find_at(artifact, {"kld"}), 3));
    row.push_back(plain({"top1_agreement"}, [](double v) { return percent(v); }));
    row.push_back(plain({"latency", "tokens_per_s"}, [](double v) { return significant(v, 3); }));
    out += row_text(row);
  }
  if (const std::string note = memorization_note(report); !note.empty()) {
    out += "\n## What it knows by heart\n\n" + note + "\n\n" + row_text({"artifact", "rows that come back"}) + row_text({":--", ":--"});
    for (const auto& [id, artifact] : artifacts_of(report).items())
      if (const std::string text = memorization_text(artifact); !text.empty()) out += row_text({escape_markdown(id), escape_markdown(text)});
  }
  if (const Json* gates = find_at(report, {"gates"}); gates && gates->is_array() && !gates->empty()) {
    out += "\n## Gates\n\n" + row_text({"number", "limit", "value", ""}) + row_text({":--", ":--", "--:", ":--"});
    for (const Json& gate : *gates) {
      const auto value = double_of(find_at(gate, {"value"}));
      const Json* passed = find_at(gate, {"passed"});
      out += row_text({escape_markdown(text_of(find_at(gate, {"path"}))), escape_markdown(limit_text(gate)), value
          ? gate_number(gate, *value, 4) : "not measured",
                       passed && passed->is_boolean() && passed->get<bool>() ? "met" : "**not met**"});
    }
  }
  out += candidates_markdown(report) + routing_markdown(report) + latency_markdown(report) + costs_markdown(report) + kv_cache_markdown(report);
  const auto snippets = use_snippets(report);
  if (!snippets.empty()) out += "\n## Use\n";
  for (const UseSnippet& snippet : snippets) out += "\n### " + escape_markdown(snippet.title) + "\n\n" + fenced(snippet.language, snippet.code);
  if (const Json* lineage = find_at(report, {"lineage"}); lineage && lineage->is_object() && !lineage->empty()) {
    out += "\n## How it was made\n\n" + row_text({"stage", "kind", "parameters", "key"}) + row_text({":--", ":--", "--:", ":--"});
    for (const auto& [id, stage] : lineage->items()) {
      const auto parameters = double_of(find_at(stage, {"facts", "parameters"}));
      out += row_text({escape_markdown(id), escape_markdown(text_of(find_at(stage, {"kind"}))), parameters ? human_count(*parameters) : "–",
                       escape_markdown(text_of(find_at(stage, {"key"})).substr(0, 12))});
    }
  }
  out += pruning_markdown(report);
  out += "\n## Limits\n\nThe numbers hold for the texts and tasks that were measured, on the machine that `report.json` names. What the "
      "model does elsewhere was not tested.\n";
  return out;
}

}  // namespace attar
