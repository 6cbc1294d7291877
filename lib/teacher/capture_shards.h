#pragma once
#include <functional>

#include "base/files.h"
#include "base/log.h"
#include "teacher/cache.h"

namespace attar {

/// The missing shards of a cache, one after another, with the folder locked, leftovers of a killed capture gone, and progress in rows.
class CaptureShards {
 public:
  CaptureShards(const fs::path& folder, const CacheIdentity& identity, int64_t rows, int64_t shard_rows, const ShardRange& range);
  /// Calls work(first, end) for the rows [first, end) of each, which begins and ends the shard; then the statistics of the cache or of its part.
  Json write(const std::function<void(int64_t first, int64_t end)>& work);
  CacheWriter& writer() { return writer_; }
  /// `rows` of the shard being written are done.
  void shard_progress(int64_t rows) { progress_.update(done_ + rows); }

 private:
  FolderLock lock_;
  CacheWriter writer_;
  std::vector<int64_t> missing_;
  int64_t rows_, shard_rows_, done_ = 0;
  bool whole_;
  Progress progress_;
};

}  // namespace attar
