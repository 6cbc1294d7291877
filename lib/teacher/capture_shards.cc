#include "teacher/capture_shards.h"

#include "base/signals.h"

namespace attar {

namespace {
/// Rows that lie in a range of shards.
int64_t rows_of_range(const ShardRange& range, int64_t rows, int64_t shard_rows) {
  const int64_t count = (rows + shard_rows - 1) / shard_rows;
  return std::min(rows, std::min(range.end, count) * shard_rows) - std::min(rows, range.begin * shard_rows);
}

const fs::path& without_leftovers(const fs::path& folder) {
  remove_leftovers(folder);
  return folder;
}
}  // namespace

CaptureShards::CaptureShards(const fs::path& folder, const CacheIdentity& identity, int64_t rows, int64_t shard_rows, const ShardRange& range)
    : lock_(folder), writer_(without_leftovers(folder), identity, rows, shard_rows), missing_(writer_.missing(range)), rows_(rows),
      shard_rows_(shard_rows), whole_(range.whole()), progress_("capture", rows_of_range(range, rows, shard_rows), "rows") {
  done_ = rows_of_range(range, rows, shard_rows);
  for (const int64_t first : missing_) done_ -= std::min(shard_rows, rows - first);
  progress_.start_at(done_);
}

Json CaptureShards::write(const std::function<void(int64_t, int64_t)>& work) {
  for (const int64_t first : missing_) {
    stop_if_asked();
    const int64_t end = std::min(first + shard_rows_, rows_);
    work(first, end);
    done_ += end - first;
    progress_.update(done_);
  }
  progress_.finish();
  return whole_ ? writer_.finish() : writer_.statistics();
}

}  // namespace attar
