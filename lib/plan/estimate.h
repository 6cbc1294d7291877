#pragma once
#include "plan/recipe.h"
#include "spec/model_spec.h"

namespace attar {

/// What a stage will take, from configurations, manifests and file sizes alone.
struct StageEstimate {
  std::string id, kind, state, reason;
  int64_t parameters = 0, peak_bytes = 0, disk_bytes = 0, tokens = 0;
  int64_t trainable = 0;  ///< parameters that a training changes: the adapters', or all
  bool at_most = false;   ///< parameters and bytes are upper bounds: what pruning the vocabulary leaves is known when the data is read
  double flops = 0, seconds = 0;
};
std::vector<StageEstimate> estimate(const Recipe& recipe, const fs::path& run_folder);
Json to_json(const std::vector<StageEstimate>& estimates);

/// Floating-point operations a second that training reaches here: measured by `attar doctor`, else a cautious guess per core.
double machine_flops();
void remember_machine_flops(double flops);

}  // namespace attar
