#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/source.h"
#include "kernels/linear_loss.h"
#include "spec/configs.h"

namespace attar {

/// Who made a cache and of what: a consumer that differs in any of these is refused with both values.
struct CacheIdentity {
  std::string teacher, tokenizer, data, rows;  ///< fingerprints
  int64_t vocab = 0;
  double temperature = 1;
  uint64_t seed = 0;
  CodecConfig codec;
  Json to_json() const;
  static CacheIdentity from_json(const Json& value, const std::string& name);
};

/// What is kept of the learned positions of some rows, in order of row and position.
/// Layout of a shard (docs/teacher_cache.md): row_begin (rows+1) i64 into the positions; entropy f16, top_id i32, label_log_prob f16 per position;
/// sampled: begin (P+1) i32, ids (u16 or i32), counts u8; top_k: ids (P, k), log_probs f16 (P, k), tail f16; full: log_probs f16 (P, V).
struct EncodedRows;

/// Writes shards of `shard_rows` rows each, named rows-<first>.h5, each whole or absent, and manifest.json when all are there.
class CacheWriter {
 public:
  /// Continues what lies in `folder` if its identity is the same; else Error.
  CacheWriter(fs::path folder, const CacheIdentity& identity, int64_t rows, int64_t shard_rows);
  ~CacheWriter();
  /// First rows of the shards still missing.
  std::vector<int64_t> missing() const;
  int64_t shard_rows() const;
  /// log_probs (P, V) float32 of the learned positions of rows [first, first + shard_rows), labels (P), positions per row; may come in pieces of whole rows.
  void add(const at::Tensor& log_probs, const at::Tensor& labels, const std::vector<int64_t>& positions_per_row);
  void begin_shard(int64_t first);
  void end_shard();
  /// Writes the manifest; Error if a shard is missing. Returns statistics: bytes_per_token, distinct_ids, kept_mass, entropy.
  Json finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reads a cache; every shard's SHA-256 is checked before it is opened. Shards are kept decoded in memory up to a budget.
class CacheReader {
 public:
  explicit CacheReader(fs::path folder);
  ~CacheReader();
  const CacheIdentity& identity() const;
  const Json& statistics() const;
  int64_t rows() const;
  /// Error naming the first fingerprint that differs, with both values.
  void check_identity(const CacheIdentity& wanted) const;
  /// Targets of the learned positions of these rows, laid out over all N = B * T positions of the batch (others empty).
  LogitTargets targets(const Batch& batch) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};
bool is_cache(const fs::path& folder);

}  // namespace attar
