#pragma once
// The recorded configurations of family_golden.json (made by make_family_golden.py from transformers).
#include "base/json.h"
#include "data_path.h"
#include "spec/model_spec.h"

namespace attar {

inline const Json& golden_cases() {
  static const Json kAll = read_json(std::filesystem::path(ATTAR_SOURCE_DIR) / "tests" / "spec" / "family_golden.json");
  return kAll.at("cases");
}

inline const Json& golden_case(const std::string& name) {
  for (const Json& one : golden_cases())
    if (one.at("name") == name) return one;
  throw std::runtime_error("no recorded case " + name);
}

inline ModelSpec golden_spec(const std::string& name) { return spec_from_config(golden_case(name).at("new"), name); }

inline std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const Json& one : golden_cases()) names.push_back(one.at("name"));
  return names;
}

}  // namespace attar
