#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/yaml.h"

namespace attar {

/// A stage that a sweep made: what the recipe calls it, and the axes' values that it differs by.
struct SweptStage {
  std::string stage;
  Json values;         ///< {"student.model": "configs/models/a.yaml", "gguf.type": "q4_0"}
};

/// Keys of a kind of stage that may name other stages ("model", "of", "init.from").
using ReferenceKeysOf = std::function<std::vector<std::string>(const std::string& kind)>;

/// Expands a recipe's `sweep` ({"student.model": [a, b], "gguf.type": [f16, q4_0]}) in place: each stage that an axis names, or that depends on one
/// that does, stands once for every combination of the values that reach it, its id followed by those values; all other stages are shared. `of` of an
/// evaluate stage takes in all that became of a stage; gates on a swept stage hold for each. -> new stage id -> where it comes from.
/// Faults (unknown stage or key, empty or doubled values, too many stages) are collected.
std::map<std::string, SweptStage> expand_sweep(Node& root, const ReferenceKeysOf& references, std::vector<Fault>& faults);

}  // namespace attar
