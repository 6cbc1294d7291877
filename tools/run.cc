// attar run: a whole recipe.
#include <iostream>

#include "engine_tools.h"
#include "base/log.h"
#include "device/device.h"
#include "report/terminal.h"
#include "stages/run.h"

namespace attar {

int tool_run(const Words& words) {
  if (!words.has("recipe")) throw UsageError("recipe, expected a file, received nothing, usage: attar run RECIPE [key=value ...] [--out DIR]");
  std::vector<std::string> overrides = words.all("overrides");
  const Recipe recipe = load_recipe(words.get("recipe"), overrides);
  const RunOutcome outcome = run_recipe(recipe, {words.get("out"), parse_device(words.get("device"))});
  if (outcome.ran == 0) log_info("nothing to do: every stage of '" + recipe.name + "' is done in " + outcome.folder.string());
  if (outcome.report.empty()) return 0;
  const Json report = read_json(outcome.report / "report.json");
  std::cout << terminal_summary(report);
  log_info("report: " + (outcome.report / "report.html").string());
  return outcome.gates_passed ? 0 : 3;
}

}  // namespace attar
