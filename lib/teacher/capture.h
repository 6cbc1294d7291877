#pragma once
#include "model/decoder.h"
#include "teacher/cache.h"

namespace attar {

/// Runs a teacher over rows and fills a cache; continues a killed capture at the next missing shard; the result's bytes do not depend on where it
/// was interrupted nor on `batch`. Random draws are keyed by (seed, row, position). Returns the statistics.
Json capture(const Decoder& teacher, const TokenRows& rows, const CacheIdentity& identity, int64_t batch, int64_t shard_rows, const fs::path& folder);

/// A live teacher's targets for a batch (no gradient): hidden states and output matrix.
LogitTargets live_targets(const Decoder& teacher, const Batch& batch);

}  // namespace attar
