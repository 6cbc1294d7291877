// attar registry add, list: what the portfolio of models in one SQLite file holds.
#include "decide/registry.h"

#include <iostream>

#include "base/check.h"
#include "base/log.h"
#include "front/front.h"
#include "report/facts.h"
#include "report/terminal.h"

namespace attar {
namespace {

std::string task_text(const Json& numbers) {
  const auto main = main_metric(numbers);
  return main ? shown_metric(main->metric, *double_of(main->measure)) : "";
}

Json model_json(const RegistryModel& m) {
  return {{"id", m.id},       {"model", m.label()},         {"artifact", m.artifact}, {"path", m.path},       {"sha256", m.sha256},
          {"bytes", m.bytes}, {"parameters", m.parameters}, {"added", m.added},       {"verdict", m.verdict}, {"in_use", m.promoted},
          {"run", m.run}};
}

}  // namespace

int tool_registry_add(const Words& words) {
  const RegistryModel model = Registry(words.get("registry"), true).add(words.get("run"), words.get("artifact"), words.get("name"));
  if (words.has("json")) std::cout << to_line(model_json(model)) << "\n";
  else
    std::cout << model.label() << ": " << model.artifact << ", " << human_bytes(static_cast<double>(model.bytes)) << ", " << task_text(model.numbers)
              << "\n";
  return 0;
}

int tool_registry_list(const Words& words) {
  Registry registry(words.get("registry"), false);
  if (words.has("history")) {
    const Json history = registry.history(words.get("name"));
    if (words.has("json")) std::cout << to_line({{"history", history}}) << "\n";
    std::vector<std::vector<std::string>> rows;
    for (const Json& use : history) rows.push_back({text_of(&use["at"]), text_of(&use["action"]), text_of(&use["model"])});
    if (!words.has("json")) std::cout << format_table({"when", "what", "model"}, rows);
    return 0;
  }
  const auto models = registry.list(words.get("name"));
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows;
  for (const RegistryModel& m : models) {
    list.push_back(model_json(m));
    rows.push_back({std::to_string(m.id), m.label(), m.promoted ? "in use" : "", m.artifact, human_bytes(static_cast<double>(m.bytes)),
                    task_text(m.numbers), m.verdict, m.added, m.sha256.substr(0, 12)});
  }
  if (words.has("json")) std::cout << to_line({{"models", list}}) << "\n";
  else std::cout << format_table({"", "model", "", "artifact", "size", "quality", "gates", "added", "file"}, rows);
  return 0;
}

}  // namespace attar
