#include "base/check.h"
#include "base/log.h"
#include "decide/cost.h"
#include "decide/route.h"
#include "report/facts.h"
#include "stages/stage.h"

namespace attar {
namespace {

/// Folder of the scores of a task: the named one, or the only one there is.
std::string task_of(const fs::path& evaluated, const std::string& named) {
  if (!named.empty()) return named;
  std::vector<std::string> tasks;
  if (fs::is_directory(evaluated / "scores"))
    for (const auto& entry : fs::directory_iterator(evaluated / "scores")) tasks.push_back(entry.path().filename().string());
  check(tasks.size() == 1, "scores in " + evaluated.string(), "those of one task", str(tasks.size()),
        tasks.empty() ? "evaluate again, on a task" : "name it: task");
  return tasks[0];
}

/// The small model's answer as a share of the large one's: as told, or by a price file and the times in the report. The report's own large model has
/// no price; an API of the price file stands for it.
double small_cost_of(const StageRun& run, const RouteConfig& config, const fs::path& evaluated) {
  if (config.small_cost > 0) return config.small_cost;
  const Json report = read_json(evaluated / "report.json");
  const Json* artifact = find_at(report, {"artifacts", config.small});
  if (!artifact) return 0;
  if (const fs::path* prices = run.input("prices")) return cost_share(artifact_cost(*artifact, read_prices(*prices)), config.api);
  const Json* cost = find_at(*artifact, {"cost"});
  return cost ? cost_share(*cost, config.api) : 0;
}

}  // namespace

void run_route(StageRun& run, const RouteConfig& config) {
  const fs::path evaluated = run.inputs.at("of");
  const std::string task = task_of(evaluated, config.task);
  const Scores small = read_scores(score_file(evaluated, task, config.small)), large = read_scores(score_file(evaluated, task, config.large));
  for (const auto& [scores, name] : {std::pair{&small, &config.small}, {&large, &config.large}})
    check(scores->header.artifact == *name, "score file of " + *name, "scores of " + *name, scores->header.artifact);
  const Json router = make_router(small, large, config, small_cost_of(run, config, evaluated), run.seed);
  write_json(run.out / "router.json", router);
  Json facts = router;
  facts.erase("curve");
  facts.erase("labels");
  facts.erase("learned");
  run.facts["router"] = std::move(facts);
  const std::string text = router_text(router);
  log_info(run.label + ": " + text.substr(0, text.find('\n')));
}

}  // namespace attar
