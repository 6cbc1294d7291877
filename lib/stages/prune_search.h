#pragma once
#include "prune/prune.h"
#include "stages/stage.h"

namespace attar {

/// What a pruning stage has read before it cuts.
struct PruneInput {
  const Checkpoint* model = nullptr;
  const PreparedRows* rows = nullptr;
  PruneEvidence evidence;
  Saliency saliency;
};

/// How often each token stands in the rows, learned from or held apart.
std::vector<int64_t> all_counts(const PreparedRows& rows, int64_t vocab);

/// `config` with the shares that config.search finds within its limit. Candidates are judged by their loss on calibration rows, the best few after a
/// short distillation from the whole model; what is known is kept in the stage's work folder. The table goes into run.facts["search"], types that
/// were chosen with the widths (config.search.types) into types.json.
PruneConfig searched(StageRun& run, const PruneConfig& config, const PruneInput& input, ProcessGroup& group);

}  // namespace attar
