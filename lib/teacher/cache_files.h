#pragma once
// The files of a cache beside its shards; inside of the teacher room. No LibTorch here, so that fuzzing reaches it.
#include <algorithm>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "teacher/cache_identity.h"

namespace attar {

inline constexpr int64_t kCacheVersion = 1;

/// What is known of a finished shard.
struct ShardRecord {
  std::string file, sha256;
  int64_t first = 0, rows = 0, positions = 0, bytes = 0;
  double distinct = 0, kept_mass = 0, entropy = 0;  ///< sums over the positions
  Json to_json() const;
  static ShardRecord from_json(const Json& value, const std::string& name);
};
std::string shard_file(int64_t first);    ///< rows-00000512.h5
std::string record_file(int64_t first);   ///< rows-00000512.json

/// capture.json: written first, so that a capture is continued only by its own kind.
struct CachePlan {
  CacheIdentity identity;
  int64_t rows = 0, shard_rows = 0;
  int64_t rows_of(int64_t first) const { return std::min(shard_rows, rows - first); }
  Json to_json() const;
  static CachePlan from_json(const Json& value, const std::string& name);
};

/// manifest.json: plan, shards and statistics under a checksum of their own.
struct CacheManifest {
  CachePlan plan;
  std::vector<ShardRecord> shards;
  Json statistics;
  Json to_json() const;
  /// Strict: version, checksum, shard names in order, rows and positions that add up.
  static CacheManifest read(const fs::path& folder);
};

Json cache_statistics(const std::vector<ShardRecord>& shards);

/// The first thing in which two identities differ, for an Error; nothing: equal. `whole`: empty fields of `wanted` count too.
std::vector<Fault> identity_difference(const CacheIdentity& have, const CacheIdentity& wanted, bool whole, const std::string& folder);

}  // namespace attar
