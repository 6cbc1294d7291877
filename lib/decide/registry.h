#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "decide/database.h"

namespace attar {

/// One model of the portfolio. `name` is a job (a recipe's name), `version` counts its models from 1.
struct RegistryModel {
  int64_t id = 0, version = 0, bytes = 0, parameters = 0;
  std::string name, artifact, path, sha256, run, added, verdict;
  Json numbers;        ///< the artifact's entry of report.json
  bool promoted = false;
  std::string label() const { return name + "@" + std::to_string(version); }
};

/// What a re-check found of one model.
struct Recheck {
  RegistryModel model;
  std::string task, metric, note;     ///< note: why nothing could be measured
  Json recorded, measured;            ///< {value, low, high, n}
  double low = 0, high = 0;           ///< 95% interval of measured - recorded
  bool worse = false;                 ///< the whole interval says so, by more than the margin
};

/// A portfolio of models in one SQLite file: what was made of what, which is in use, which was before.
class Registry {
 public:
  Registry(const fs::path& file, bool create);
  /// Adds an artifact of a finished run ("" : the report's choice); the file must still be the one that was measured. The same file under the same
  /// name is not added twice. `name` empty: the recipe's.
  RegistryModel add(const fs::path& run, const std::string& artifact, const std::string& name);
  std::vector<RegistryModel> list(const std::string& name = "");
  /// NAME@VERSION, NAME (the promoted one, else the newest), or a number. Error names the nearest.
  RegistryModel find(const std::string& label);
  /// Makes it the one in use; its file must still have the recorded hash. Error if gates of its run were not met, unless `anyway`.
  RegistryModel promote(const std::string& label, bool anyway);
  /// Back to the model that was in use before. Error if there was none.
  RegistryModel roll_back(const std::string& name);
  /// Who was in use when: [{model, at, action}].
  Json history(const std::string& name);
  /// From data to file: [{stage, kind, key, inputs, outputs}], inputs first, and the data's hashes.
  Json lineage(const std::string& label);
  /// Judges models again: `evaluate` gives the artifact entry of new data for a model's path. Kept in the file. `all`: not only those in use.
  std::vector<Recheck> recheck(bool all, double margin, const std::string& data, const std::function<Json(const RegistryModel&)>& evaluate);

 private:
  void make_tables();
  std::optional<RegistryModel> in_use(const std::string& name, int64_t before = 0);
  Database database_;
};

/// Numbers of two models side by side: [{number, a, b, difference}] of those that either has.
Json compare_models(const RegistryModel& a, const RegistryModel& b);

}  // namespace attar
