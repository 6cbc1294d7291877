#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
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

/// Writes shards of `shard_rows` rows each, named rows-<first>.h5, each whole or absent, with what is known of each beside it (rows-<first>.json),
/// and manifest.json when all are there. Arrays of a shard: codec.h and docs/teacher_cache.md.
class CacheWriter {
 public:
  /// Continues what lies in `folder` if its identity is the same; else Error.
  CacheWriter(fs::path folder, const CacheIdentity& identity, int64_t rows, int64_t shard_rows);
  ~CacheWriter();
  /// First rows of the shards still missing.
  std::vector<int64_t> missing() const;
  int64_t shard_rows() const;
  void begin_shard(int64_t first);
  /// log_probs (P, V) float32 of the learned positions of rows [first, first + shard_rows), labels (P), positions per row; may come in pieces of
  /// whole rows. They are normalised again, so logits at the cache's temperature will do.
  void add(const at::Tensor& log_probs, const at::Tensor& labels, const std::vector<int64_t>& positions_per_row);
  /// The same from logits (P, V) before the temperature, which are overwritten; `rows` names the row of each position and never falls.
  /// Rows that are not named have no positions.
  void add_logits(at::Tensor logits, const at::Tensor& labels, const std::vector<int64_t>& rows);
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
  /// Error naming the first fingerprint that differs, with both values. What `wanted` leaves empty (or 0) is not compared; seed and codec are
  /// compared when it names a teacher.
  void check_identity(const CacheIdentity& wanted) const;
  /// Targets of the learned positions of these rows, laid out over all N = B * T positions of the batch (others empty). Error if a row has
  /// another number of learned positions than it had at capture.
  LogitTargets targets(const Batch& batch) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};
/// Whether a folder holds a cache, finished or not.
bool is_cache(const fs::path& folder);

/// Everything wrong with a finished cache: manifest, every byte of every shard, what the arrays say, files that do not belong. Empty: sound.
std::vector<Fault> verify_cache(const fs::path& folder);

}  // namespace attar
