#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/yaml.h"

namespace attar {

/// A key of a stage's configuration that may name stages; `kinds` are the stage kinds that give what it needs.
struct ReferenceKey {
  std::string key;
  std::vector<std::string> kinds;
  bool required;
};

/// What the recipe reader knows of a kind of stage.
struct StageKindInfo {
  std::string kind, help;
  std::vector<ReferenceKey> references;
  std::function<Json(const Node&, const std::string&, std::vector<Fault>&)> read;  ///< checked, effective configuration
  std::function<Json()> schema;
};

/// All kinds, in the order that help lists them.
const std::vector<StageKindInfo>& all_stage_kinds();
/// Null if there is no such kind.
const StageKindInfo* find_stage_kind(const std::string& kind);

}  // namespace attar
