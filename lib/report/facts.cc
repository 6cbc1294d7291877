#include "report/facts.h"

#include <charconv>
#include <cmath>

#include "base/check.h"

namespace attar {

const Json* find_at(const Json& root, std::initializer_list<std::string_view> path) {
  const Json* at = &root;
  for (const std::string_view key : path) {
    if (!at->is_object()) return nullptr;
    const auto found = at->find(std::string(key));
    if (found == at->end()) return nullptr;
    at = &*found;
  }
  return at;
}

const Json* find_at(const Json* root, std::initializer_list<std::string_view> path) { return root ? find_at(*root, path) : nullptr; }

const Json* number_of(const Json* value) {
  if (!value) return nullptr;
  if (value->is_object()) {
    const Json* inner = find_at(*value, {"value"});
    value = inner ? inner : find_at(*value, {"mean"});
  }
  return value && value->is_number() && std::isfinite(value->get<double>()) ? value : nullptr;
}

std::optional<double> double_of(const Json* value) {
  const Json* number = number_of(value);
  return number ? std::optional<double>(number->get<double>()) : std::nullopt;
}

std::string text_of(const Json* value) {
  if (!value || value->is_null()) return "";
  return value->is_string() ? value->get<std::string>() : to_line(*value);
}

std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "-";
  char out[400];
  const auto end = std::to_chars(out, out + sizeof out, value, std::chars_format::fixed, decimals);
  std::string text(out, end.ptr);
  return text.find_first_not_of("-0.") == std::string::npos && text[0] == '-' ? text.substr(1) : text;
}

std::string significant(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  if (value == 0) return "0";
  char out[64];
  const double size = std::fabs(value);
  if (size < 1e-4 || size >= 1e15) return std::string(out, std::to_chars(out, out + sizeof out, value, std::chars_format::scientific,
      digits - 1).ptr);
  const int whole = static_cast<int>(std::floor(std::log10(size))) + 1;
  return fixed(value, std::max(0, digits - whole));
}

std::string percent(double share, int decimals) { return fixed(100 * share, decimals) + "%"; }

std::string points(double difference) {
  const std::string size = fixed(std::fabs(100 * difference), 1);
  if (size == "0.0") return "±0.0 pts";
  return (difference < 0 ? "−" : "+") + size + " pts";
}

bool is_share(const std::string& metric) {
  for (const char* word : {"accuracy", "f1", "recall", "precision", "exact_match", "valid", "top1", "rouge"})
    if (metric.find(word) != std::string::npos) return true;
  return false;
}

std::string shown_metric(const std::string& metric, double value) { return is_share(metric) ? percent(value) : significant(value, 3); }

std::optional<TaskMetric> main_metric(const Json& artifact) {
  const Json* tasks = find_at(artifact, {"tasks"});
  if (!tasks || !tasks->is_object()) return std::nullopt;
  for (const auto& [task, metrics] : tasks->items()) {
    if (!metrics.is_object()) continue;
    for (const auto& [metric, measure] : metrics.items())
      if (number_of(&measure)) return TaskMetric{task, metric, &measure};
  }
  return std::nullopt;
}

const Json& artifacts_of(const Json& report) {
  static const Json none = Json::object();
  const Json* artifacts = find_at(report, {"artifacts"});
  return artifacts && artifacts->is_object() ? *artifacts : none;
}

std::string gate_artifact(const Json& report, const std::string& path) {
  std::string best;
  for (const auto& [id, artifact] : artifacts_of(report).items())
    if (id.size() > best.size() && (path == id || path.starts_with(id + "."))) best = id;
  return best;
}

std::string gate_number(const Json& gate, double number, int digits) {
  if (text_of(find_at(gate, {"path"})).ends_with("bytes")) {
    bool told_apart = true;
    const auto value = double_of(find_at(gate, {"value"}));
    for (const char* end : {"at_least", "at_most"})
      if (const auto limit = double_of(find_at(gate, {"limit", end})); limit && value)
        told_apart = told_apart && (*limit == *value || human_bytes(*limit) != human_bytes(*value));
    return !told_apart ? fixed(number, 0) + " B" : (number < 0 ? "-" : "") + human_bytes(std::fabs(number));
  }
  if (std::fabs(number) < 1e15 && number == std::round(number)) return fixed(number, 0);
  return digits > 0 ? significant(number, digits) : to_line(Json(number));
}

std::string limit_text(const Json& gate) {
  std::string out;
  const Json* limit = find_at(gate, {"limit"});
  if (!limit || !limit->is_object()) return text_of(limit);
  const auto shown = [&](const Json* number) { return number_of(number) ? gate_number(gate, *double_of(number)) : text_of(number); };
  for (const auto& [key, value] : limit->items()) {
    if (value.is_null()) continue;
    if (const Json* of = find_at(value, {"of"})) {
      out += (out.empty() ? "" : ", ") + ("within " + shown(find_at(value, {"margin"})) + " of " + text_of(of));
      continue;
    }
    std::string words = key;
    for (char& c : words)
      if (c == '_') c = ' ';
    out += (out.empty() ? "" : ", ") + words + " " + shown(&value);
  }
  return out;
}

}  // namespace attar
