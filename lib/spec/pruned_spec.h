#pragma once
#include "spec/configs.h"
#include "spec/model_spec.h"

namespace attar {

/// The widths that pruning by `config` will give, from configuration alone: what `plan` says and what surgery then does.
/// Error if nothing would be left or the budget cannot be met (says the nearest that can).
ModelSpec pruned_spec(const ModelSpec& spec, const PruneConfig& config);

}  // namespace attar
