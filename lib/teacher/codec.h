#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "formats/shard.h"
#include "teacher/cache_identity.h"

namespace at {
class Tensor;
}

namespace attar {

/// What is kept of P learned positions, in order of row and position. Half floats as raw bits. docs/teacher_cache.md names them on disk.
struct EncodedRows {
  std::vector<int64_t> row_begin = {0};           ///< rows + 1, into the positions
  std::vector<uint16_t> entropy, label_log_prob;  ///< (P) nats
  std::vector<int32_t> top_id;                    ///< (P)
  std::vector<uint8_t> distinct;                  ///< sampled: (P) ids drawn at each
  std::vector<int32_t> ids;                       ///< sampled: (E) ascending inside a position; top_k: (P, k) by falling probability
  std::vector<uint8_t> counts;                    ///< sampled: (E) times drawn, 1 to samples
  std::vector<uint16_t> log_probs;                ///< top_k: (P, k); full: (P, V)
  std::vector<uint16_t> tail;                     ///< top_k: (P) mass outside ids
  std::vector<int64_t> begin;                     ///< sampled: (P + 1) into ids; made of `distinct`, not stored
  std::map<int64_t, std::vector<uint16_t>> hidden;  ///< layer -> (P, hidden_width) outputs of the layer
  int64_t hidden_width = 0;
  double distinct_sum = 0, mass_sum = 0, entropy_sum = 0;  ///< of encoded positions, for the statistics; not stored
  int64_t positions() const { return static_cast<int64_t>(entropy.size()); }
  int64_t bytes() const;                          ///< memory taken
};

/// What a teacher elsewhere (a server, another tool) says of one position: the ids it names by falling probability, and the label.
struct SaidPosition {
  std::vector<int32_t> ids;
  std::vector<double> log_probs;  ///< nats, at temperature 1
  double label_log_prob = 0;
  bool known = true;              ///< false: it says nothing of this position, which then teaches nothing
};

/// From a teacher's logits to what is kept (codec.cc) and back (codec_arrays.cc, without LibTorch, so that fuzzing reaches it). The draws of
/// a position depend on (seed, row, position) alone.
class TeacherCodec {
 public:
  /// Error if the codec is unknown or its numbers are out of range.
  explicit TeacherCodec(const CacheIdentity& identity);
  /// Adds positions. logits (P, V or more) float32 are divided by `temperature` and overwritten; labels (P) int64; for each position its row
  /// and its number among the row's learned positions.
  void encode(at::Tensor logits, double temperature, const at::Tensor& labels, const std::vector<int64_t>& rows, const std::vector<int64_t>& numbers,
              EncodedRows& out) const;
  /// Adds a position of codec top_k (codec_said.cc). Error unless ids are different, inside the vocabulary and at most k, and log-probabilities
  /// finite, at most 0, falling and of a sum of at most 1. A sum above 1 by rounding is divided away, what is missing to 1 is the tail; `name`
  /// stands in errors.
  void encode(const SaidPosition& said, const std::string& name, EncodedRows& out) const;
  std::map<std::string, ShardArray> pack(const EncodedRows& rows) const;
  /// Every array checked: lengths, ids, counts, order. `name` stands in errors.
  EncodedRows unpack(const std::map<std::string, ShardArray>& arrays, int64_t rows, const std::string& name) const;
  /// Distribution of position p: sampled and top_k fill ids, probs (room for width(rows, p)) and give the tail's mass.
  int64_t width(const EncodedRows& rows, int64_t p) const;
  float decode(const EncodedRows& rows, int64_t p, int32_t* ids, float* probs) const;
  bool sampled() const { return codec_.kind == "sampled"; }
  bool full() const { return codec_.kind == "full"; }
  const std::vector<int64_t>& hidden_layers() const { return codec_.hidden_layers; }
  int64_t vocab() const { return vocab_; }

 private:
  void encode_sampled(const at::Tensor& probs, const std::vector<int64_t>& rows, const std::vector<int64_t>& numbers, EncodedRows& out) const;
  void encode_top_k(const at::Tensor& logits, const at::Tensor& log_sum, double temperature, EncodedRows& out) const;
  bool packed() const { return vocab_ > 65536 && id_bits_ + count_bits_ <= 24; }
  CodecConfig codec_;
  int64_t vocab_ = 0, id_bits_ = 0, count_bits_ = 0;
  uint64_t seed_ = 0;
};

/// Nats that a student of so many trained parameters stays above what the whole distributions would teach it, where each of `positions` has so many
/// independent draws: parameters / (2 positions draws). The draws' noise in the loss's gradient has the covariance F / (positions draws), F the
/// Fisher information of the student at its optimum; the optimum moves by F^-1 times that noise, and the loss by half of F's quadratic form of the
/// move, whose mean is the trace of the identity over 2 positions draws (van der Vaart, Asymptotic Statistics, section 5.3). For large positions.
double excess_of_draws(int64_t parameters, double positions, int64_t draws);

/// float32 <-> raw half bits, rounded to nearest.
uint16_t half_bits(float value);
float from_half_bits(uint16_t bits);

}  // namespace attar
