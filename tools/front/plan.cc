// attar plan: what run would do and what it would take.
#include <iostream>

#include "front/front.h"
#include "plan/estimate.h"
#include "report/terminal.h"

namespace attar {

int tool_plan(const Words& words) {
  const Recipe recipe = load_recipe(words.get("recipe"), words.all("overrides"));
  const fs::path folder = words.has("out") ? fs::path(words.get("out")) : fs::path("runs") / recipe.name;
  const auto estimates = estimate(recipe, folder);
  if (words.has("json")) {
    std::cout << to_line(to_json(estimates)) << "\n";
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  double seconds = 0, disk = 0, peak = 0;
  for (const StageEstimate& e : estimates) {
    std::string parameters = e.parameters ? human_count(static_cast<double>(e.parameters)) : "";
    if (e.at_most) parameters = "at most " + parameters;
    if (e.trainable > 0 && e.trainable < e.parameters) parameters += " (trained: " + human_count(static_cast<double>(e.trainable)) + ")";
    rows.push_back({e.id, e.kind, e.state, parameters, human_bytes(static_cast<double>(e.peak_bytes)), human_bytes(static_cast<double>(e.disk_bytes)),
                    e.tokens ? human_count(static_cast<double>(e.tokens)) : "", human_seconds(e.seconds), e.reason});
    seconds += e.seconds, disk += static_cast<double>(e.disk_bytes), peak = std::max(peak, static_cast<double>(e.peak_bytes));
  }
  std::cout << format_table({"stage", "kind", "state", "parameters", "memory", "disk", "tokens", "time", "why"}, rows);
  std::cout << "in all about " << human_seconds(seconds) << ", " << human_bytes(disk) << " of disk, " << human_bytes(peak) << " of memory, into "
            << folder.string() << "\n";
  return 0;
}

int tool_schema(const Words&) {
  std::cout << recipe_schema().dump(2) << "\n";
  return 0;
}

}  // namespace attar
