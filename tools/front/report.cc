// attar report RUN_DIR: the report again, from what the stages recorded.
#include <iostream>

#include "report/report.h"

#include "base/check.h"
#include "front/front.h"
#include "report/run_log.h"
#include "report/terminal.h"

namespace attar {

int tool_report(const Words& words) {
  const fs::path run = words.get("run");
  check(fs::exists(run / "recipe.json"), run.string(), "the folder of a run, with recipe.json", "none");
  const Json recipe = read_json(run / "recipe.json");
  std::map<std::string, std::vector<Json>> logs;
  fs::path evaluated;
  const Json stage_map = recipe.value("stages", Json::object());
  for (const auto& [id, stage] : stage_map.items()) {
    if (fs::exists(run / id / "log.jsonl")) logs[id] = read_run_log(run / id / "log.jsonl");
    if (stage.value("kind", "") == "evaluate" && fs::exists(run / id / "report.json")) evaluated = run / id;
  }
  check(!evaluated.empty(), run.string(), "a finished evaluate stage", "none", "run the recipe to its end");
  Json report = read_json(evaluated / "report.json");
  if (Json routers = routers_of(run, stage_map, evaluated.filename().string()); !routers.empty()) report["routers"] = std::move(routers);
  make_folder(run / "report");
  write_report(report, logs, run / "report");
  std::cout << terminal_summary(report) << "report: " << (run / "report" / "report.html").string() << "\n";
  return 0;
}

}  // namespace attar
