#include "report/facts.h"
#include "report/report.h"

namespace attar {

Json routers_of(const fs::path& run, const Json& stages, const std::string& evaluated) {
  Json out = Json::object();
  if (!stages.is_object()) return out;
  for (const auto& [id, stage] : stages.items()) {
    const fs::path file = run / id / "router.json";
    if (text_of(find_at(stage, {"kind"})) != "route" || text_of(find_at(stage, {"of"})) != evaluated || !fs::is_regular_file(file)) continue;
    Json router = read_json(file);
    if (!router.is_object()) continue;
    // Names of the labels stand in the task's details, a learned score's weights in the file itself.
    router.erase("labels");
    router.erase("learned");
    out[id] = std::move(router);
  }
  return out;
}

}  // namespace attar
