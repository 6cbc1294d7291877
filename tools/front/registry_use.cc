// attar registry compare, promote, rollback, lineage: which model of the portfolio is in use, why, and where it comes from.
#include <iostream>

#include "base/check.h"
#include "decide/registry.h"
#include "front/front.h"
#include "report/facts.h"
#include "report/terminal.h"

namespace attar {
namespace {

Registry open_registry(const Words& words) { return {words.get("registry"), false}; }

std::string shown(const Json& value) { return value.is_number() ? significant(value.get<double>(), 5) : ""; }

}  // namespace

int tool_registry_compare(const Words& words) {
  Registry registry = open_registry(words);
  const RegistryModel a = registry.find(words.get("first")), b = registry.find(words.get("second"));
  const Json numbers = compare_models(a, b);
  if (words.has("json")) {
    std::cout << to_line({{"a", a.label()}, {"b", b.label()}, {"numbers", numbers}}) << "\n";
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : numbers) {
    const Json* difference = find_at(row, {"difference"});
    std::string text = difference ? shown((*difference)["value"]) : "";
    if (difference && difference->contains("low")) text += " [" + shown((*difference)["low"]) + ", " + shown((*difference)["high"]) + "]";
    rows.push_back({text_of(&row["number"]), shown(row["a"]), shown(row["b"]), text});
  }
  std::cout << format_table({"", a.label(), b.label(), "difference"}, rows);
  return 0;
}

int tool_registry_promote(const Words& words) {
  const RegistryModel model = open_registry(words).promote(words.get("model"), words.has("anyway"));
  std::cout << model.label() << " is in use: " << model.path << "\n";
  return 0;
}

int tool_registry_rollback(const Words& words) {
  const RegistryModel model = open_registry(words).roll_back(words.get("name"));
  std::cout << model.label() << " is in use again: " << model.path << "\n";
  return 0;
}

int tool_registry_lineage(const Words& words) {
  const Json lineage = open_registry(words).lineage(words.get("model"));
  if (words.has("json")) {
    std::cout << to_line(lineage) << "\n";
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& [what, data] : lineage["data"].items())
    rows.push_back({what, "data", text_of(&data["path"]), text_of(&data["sha256"]).substr(0, 16)});
  for (const Json& stage : lineage["stages"]) {
    std::string inputs;
    if (const Json* named = find_at(stage, {"inputs"}); named && named->is_object())
      for (const auto& [key, input] : named->items()) inputs += (inputs.empty() ? "" : ", ") + key + "=" + text_of(find_at(input, {"name"}));
    rows.push_back({text_of(&stage["stage"]), text_of(find_at(stage, {"kind"})), inputs, text_of(find_at(stage, {"key"})).substr(0, 16)});
  }
  rows.push_back({text_of(&lineage["model"]), "file", text_of(&lineage["file"]["path"]), text_of(&lineage["file"]["sha256"]).substr(0, 16)});
  std::cout << format_table({"", "what", "from", "hash"}, rows);
  return 0;
}

}  // namespace attar
