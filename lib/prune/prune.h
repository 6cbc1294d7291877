#pragma once
#include "base/json.h"
#include "data/rows.h"
#include "model/checkpoint.h"
#include "prune/saliency.h"
#include "spec/configs.h"

namespace attar {

/// What pruning learns from calibration text; a criterion that needs none leaves it empty.
struct PruneEvidence {
  const TokenRows* rows = nullptr;
  ActivationStatistics statistics;
};
/// Whether `config` reads calibration text at all, apart from the vocabulary and a search, and whether it wants activation statistics (which a
/// calibrate stage may have collected before).
bool needs_calibration(const PruneConfig& config);
bool needs_statistics(const PruneConfig& config);

/// How much every part matters, by config.criterion.
Saliency model_saliency(const Checkpoint& model, const PruneConfig& config, const PruneEvidence& evidence, uint64_t seed, ProcessGroup& group);

/// A smaller model that any reader of the whole one loads, to the shape that pruned_spec() says: parts of the lowest importance removed along every
/// axis that the configuration names. `report` receives what was kept where. Error if a share leaves nothing or the budget cannot be met.
Checkpoint prune(const Checkpoint& model, const PruneConfig& config, const PruneEvidence& evidence, uint64_t seed, ProcessGroup& group, Json& report);
/// The same with scores that are already there.
Checkpoint prune(const Checkpoint& model, const PruneConfig& config, const PruneEvidence& evidence, const Saliency& saliency, ProcessGroup& group,
                 Json& report);

/// Mean cross-entropy in nats per learned token over the first `limit` rows.
double calibration_loss(const Checkpoint& model, const TokenRows& rows, int64_t limit, int64_t batch);

}  // namespace attar
