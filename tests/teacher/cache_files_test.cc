#include "teacher/cache_files.h"

#include <gtest/gtest.h>

namespace attar {
namespace {

// Sums over such numbers, and row_begin's length of rows + 1, would leave int64.
TEST(CacheFiles, NumbersNearTheEndOfInt64AreRefused) {
  CachePlan plan;
  plan.identity.codec.kind = "sampled";
  plan.rows = plan.shard_rows = 4;
  EXPECT_EQ(CachePlan::from_json(plan.to_json(), "m").rows, 4);
  for (const char* key : {"rows", "shard_rows"}) {
    for (const int64_t value : {INT64_MAX, (int64_t{1} << 48) + 1, int64_t{0}, int64_t{-1}}) {
      Json json = plan.to_json();
      json[key] = value;
      EXPECT_THROW(CachePlan::from_json(json, "m"), Error) << key << " " << value;
    }
  }
  ShardRecord shard;
  shard.file = shard_file(0);
  shard.rows = 1;
  EXPECT_EQ(ShardRecord::from_json(shard.to_json(), "m").rows, 1);
  for (const char* key : {"rows", "positions", "bytes"}) {
    for (const int64_t value : {INT64_MAX, (int64_t{1} << 48) + 1, int64_t{-1}}) {
      Json json = shard.to_json();
      json[key] = value;
      EXPECT_THROW(ShardRecord::from_json(json, "m"), Error) << key << " " << value;
    }
  }
}

TEST(CacheFiles, AShardIsNamedByItsFirstRow) {
  ShardRecord shard;
  shard.rows = 1;
  for (const char* name : {"../rows-00000000.h5", "/rows-00000000.h5", "rows-00000001.h5", ""}) {
    shard.file = name;
    EXPECT_THROW(ShardRecord::from_json(shard.to_json(), "m"), Error) << name;
  }
}

}  // namespace
}  // namespace attar
