#pragma once
#include "base/files.h"
#include "base/json.h"

namespace attar {

/// Wilson score interval of a proportion (Wilson 1927) at confidence 95%.
struct Interval {
  double low = 0, high = 0;
};
Interval wilson_interval(int64_t successes, int64_t trials, double z = 1.959963984540054);

/// The router.json files of a run's finished route stages that read the evaluate stage `evaluated`, by stage id: `routers` of report.json. `stages`:
/// of the run's recipe.json.
Json routers_of(const fs::path& run, const Json& stages, const std::string& evaluated);

/// Writes report.html (one file, opens offline), report.md (a model card) and report.json into `folder`.
/// `report` is report.json's content (docs/report.md); `logs`: stage id -> lines of its training log.
void write_report(const Json& report, const std::map<std::string, std::vector<Json>>& logs, const fs::path& folder);

}  // namespace attar
