#pragma once
#include <functional>

#include "model/decoder.h"
#include "teacher/cache.h"
#include "teacher/codec.h"

namespace attar {

/// Runs a teacher over rows and fills a cache; continues a killed capture at the next missing shard; the result's bytes do not depend on where it
/// was interrupted nor on `batch`. Random draws are keyed by (seed, row, position). Returns the statistics. With a range of shards only those are
/// made and the cache is not finished: merge_caches does that.
Json capture(const Decoder& teacher, const TokenRows& rows, const CacheIdentity& identity, int64_t batch, int64_t shard_rows, const fs::path& folder,
             const ShardRange& range = {});

/// A document inside a row, or what of it lies there, with the tokens that are to be predicted.
struct RowSegment {
  int64_t row = 0, begin = 0;      ///< where its first token lies
  std::vector<int32_t> ids;
  std::vector<uint8_t> wanted;     ///< beside ids: 1 where this token is to be predicted from those before it; the first never is
  std::string name() const;        ///< "row 3, tokens 0 to 41"
};
/// The segments of rows [first, end) of which something is learned, in order.
std::vector<RowSegment> segments_of(const TokenRows& rows, int64_t first, int64_t end);

/// Fills a cache of codec top_k with what somebody else says: `ask` gives a position for each token of a segment (those not wanted are ignored) and
/// is called from `concurrency` threads at once. Resumed like capture(); bytes do not depend on the order of the answers.
using AskSegment = std::function<std::vector<SaidPosition>(const RowSegment&)>;
Json capture_said(const AskSegment& ask, const TokenRows& rows, const CacheIdentity& identity, int64_t concurrency, int64_t shard_rows,
                  const fs::path& folder, const ShardRange& range = {});

/// A live teacher's targets for a batch (no gradient): hidden states and output matrix. `states`: as Decoder::hidden fills them.
LogitTargets live_targets(const Decoder& teacher, const Batch& batch, std::map<int64_t, at::Tensor>* states = nullptr);
LogitTargets live_targets(const Decoder& teacher, const TokenBatch& tokens, std::map<int64_t, at::Tensor>* states = nullptr);

/// A live teacher's mean -log p(label) over the learned positions of each of the rows [first, end), in nats at temperature 1, over the first `vocab`
/// ids; 0 for a row without any. Does not depend on where a range ends if ranges begin at multiples of kScoredRows. Error if one is not finite.
inline constexpr int64_t kScoredRows = 16;  ///< rows a forward pass
std::vector<double> live_row_losses(const Decoder& teacher, const TokenRows& rows, int64_t first, int64_t end, int64_t vocab);

}  // namespace attar
