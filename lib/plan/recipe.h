#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/yaml.h"
#include "plan/sweep.h"
#include "spec/configs.h"

namespace attar {

/// A value of a stage's configuration that names another stage or a path.
struct Reference {
  std::string key;     ///< "model", "of[2]"
  std::string value;   ///< as written
  std::string stage;   ///< id of the stage it means; empty: a path
  fs::path path;       ///< resolved path where no stage is meant
};

struct Stage {
  std::string id, kind;
  Node config;                        ///< the stage's map without `kind` and `seed`
  std::optional<uint64_t> seed;       ///< its own; absent: the recipe's
  Json effective;                     ///< every key with its value, defaults included
  std::vector<Reference> references;
  std::string key;                    ///< SHA-256 of all that decides the result: effective configuration, seed, task, keys of inputs, bytes of files
};

/// A recipe, read whole and checked whole: unknown keys, kinds, references, cycles, missing files, wrong values, all reported together.
struct Recipe {
  std::string name;
  uint64_t seed = 0;
  fs::path file;
  std::string task_path, license, base_model;
  std::optional<TaskConfig> task;
  fs::path task_file;
  std::vector<Stage> stages;          ///< inputs before what uses them
  std::vector<std::pair<std::string, GateConfig>> gates;
  std::map<std::string, SweptStage> swept;   ///< stages that a sweep made
  Json effective;                     ///< the whole recipe with overrides and defaults
  const Stage* find(const std::string& id) const;
};

Recipe load_recipe(const fs::path& file, const std::vector<std::string>& overrides);
/// The same from a tree in memory; `file` stands in errors and its folder is where relative paths are tried.
Recipe recipe_from_node(Node root, const fs::path& file);
/// JSON Schema (draft 2020-12) of a recipe.
Json recipe_schema();
/// Kinds of stages, with one line of help each.
const std::vector<std::pair<std::string, std::string>>& stage_kinds();

/// What stands in the manifest of an artifact.
struct Manifest {
  std::string kind, key, name;
  int version = 1;
  Json configuration, inputs, facts;             ///< facts: what the stage measured
  std::map<std::string, std::string> outputs;    ///< relative path -> SHA-256
  std::map<std::string, uint64_t> sizes;
  uint64_t seed = 0;
  double seconds = 0;
  Json code;                                     ///< versions; no part of the key
};
Json to_json(const Manifest& manifest);
Manifest read_manifest(const fs::path& folder);
/// Hashes every file in `folder` (but manifest.json and logs) and writes manifest.json.
void write_manifest(const fs::path& folder, Manifest manifest);
/// Faults of a folder against its manifest: missing, changed or unknown files. `quick`: sizes only.
std::vector<Fault> verify_manifest(const fs::path& folder, bool quick);

/// Where the model of an artifact lies: an export's file, else the folder itself.
fs::path model_path(const fs::path& artifact);
/// The importance matrix of a calibrate stage's folder, or the file itself.
fs::path imatrix_path(const fs::path& given);

enum class StageState { done, needed };
/// Whether DIR/<id> holds the result of exactly this stage; `reason` in words ("configuration changed", "never run", ...).
StageState stage_state(const Stage& stage, const fs::path& run_folder, std::string& reason);

}  // namespace attar
