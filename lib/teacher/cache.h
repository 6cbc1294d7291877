#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "data/source.h"
#include "kernels/linear_loss.h"
#include "teacher/cache_identity.h"

namespace attar {

struct SaidPosition;

/// Shards by number, `end` left out.
struct ShardRange {
  int64_t begin = 0, end = INT64_MAX;
  bool whole() const { return begin == 0 && end == INT64_MAX; }
  /// "A:B" with 0 <= A < B; "" is all.
  static ShardRange parse(const std::string& text);
};

/// Writes shards of `shard_rows` rows each, named rows-<first>.h5, each whole or absent, with what is known of each beside it (rows-<first>.json),
/// and manifest.json when all are there. Arrays of a shard: codec.h and docs/teacher_cache.md.
class CacheWriter {
 public:
  /// Continues what lies in `folder` if its identity is the same; else Error.
  CacheWriter(fs::path folder, const CacheIdentity& identity, int64_t rows, int64_t shard_rows);
  ~CacheWriter();
  /// First rows of the shards of a range that are still missing. Error if the range reaches beyond the last shard.
  std::vector<int64_t> missing(const ShardRange& range = {}) const;
  int64_t shard_rows() const;
  void begin_shard(int64_t first);
  /// log_probs (P, V) float32 of the learned positions of rows [first, first + shard_rows), labels (P), positions per row; may come in pieces of
  /// whole rows. They are normalised again, so logits at the cache's temperature will do.
  void add(const at::Tensor& log_probs, const at::Tensor& labels, const std::vector<int64_t>& positions_per_row);
  /// The same from logits (P, V) before the temperature, which are overwritten; `rows` names the row of each position and never falls.
  /// Rows that are not named have no positions.
  void add_logits(at::Tensor logits, const at::Tensor& labels, const std::vector<int64_t>& rows);
  /// The same from what a server or another tool said; codec top_k.
  void add_said(const std::vector<SaidPosition>& positions, const std::vector<int64_t>& rows);
  /// Outputs (P, D) of a layer at the next P positions, beside their logits; once for each of the codec's hidden_layers. Kept in half precision,
  /// beyond its range cut to it. Error if not finite.
  void add_hidden(int64_t layer, const at::Tensor& states);
  void end_shard();
  /// Writes the manifest; Error if a shard is missing. Returns statistics: bytes_per_token, distinct_ids, kept_mass, entropy.
  Json finish();
  /// Statistics of the shards that are there.
  Json statistics() const;

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
  /// Error naming the first fingerprint that differs, with both values. What `wanted` leaves empty (or 0) is not compared; seed and codec are
  /// compared when it names a teacher.
  void check_identity(const CacheIdentity& wanted) const;
  /// Targets of the learned positions of these rows, laid out over all N = B * T positions of the batch (others empty). Error if a row has
  /// another number of learned positions than it had at capture.
  LogitTargets targets(const Batch& batch) const;
  /// Adds the columns teacher_hidden_<layer> (B * T, D) float16, zeros where no label is; for each of the codec's hidden_layers.
  void add_hidden(Batch& batch) const;
  /// Entropy of the teacher's whole distribution (nats, as half precision kept it) at each of the N = B * T positions; 0 where no label is.
  at::Tensor entropies(const Batch& batch) const;
  /// For each row the mean of -log p(label) over its learned positions of which the teacher said something, in nats at the cache's temperature;
  /// 0 for a row without any.
  std::vector<double> row_losses() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};
/// Whether a folder holds a cache, finished or not.
bool is_cache(const fs::path& folder);

/// Everything wrong with a finished cache: manifest, every byte of every shard, what the arrays say, files that do not belong. Empty: sound.
std::vector<Fault> verify_cache(const fs::path& folder);

/// Puts parts of one capture (folders with capture.json, shards and their records) together into `folder` by links, or copies on another disk,
/// without writing a shard again, and finishes the cache. Returns the statistics. Error if parts differ in anything, or a shard is missing,
/// damaged, or not the same in two parts.
Json merge_caches(const std::vector<fs::path>& parts, const fs::path& folder);

}  // namespace attar
