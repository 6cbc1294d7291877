#pragma once
#include "base/json.h"
#include "calibrate/activations.h"
#include "model/checkpoint.h"
#include "spec/configs.h"

namespace attar {

/// A smaller model that any reader loads: FFN channels of the lowest importance removed from gate, up and down of every layer, the same number
/// in each. `report` receives what was kept where. Error if the ratio leaves nothing or the budget cannot be met (says the nearest that can).
Checkpoint prune(const Checkpoint& model, const PruneConfig& config, const ActivationStatistics& statistics, uint64_t seed, Json& report);

}  // namespace attar
