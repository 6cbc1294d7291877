#pragma once
#include "calibrate/activations.h"
#include "prune/masks.h"

namespace attar {

/// mask_model()'s Wanda from statistics that are there already: inputs are those of the whole model, so a layer does not see what the masks before it
/// did. The first layer's projections of queries, keys and values are masked as the walk masks them. Error if a linear has no statistics of its
/// width.
Masks mask_by_statistics(Checkpoint& model, const PruneConfig& config, const ActivationStatistics& statistics);

}  // namespace attar
