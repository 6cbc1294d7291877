#pragma once
#include <cstdint>
#include <vector>

#include "base/json.h"
#include "eval/statistics.h"
#include "model/decoder.h"

namespace attar {

struct MemorizationOptions {
  int64_t prefix = 16, length = 16;  ///< tokens that are given, and tokens that must then come
  int64_t rows = 200;                ///< texts of each kind that are tried, spread evenly over all
  int64_t batch = 16;
};

/// Share of texts that a model goes on with word for word when it is given their beginning: greedy decoding reproduces the next `length` tokens
/// (Carlini et al. 2023, arXiv 2202.07646, definition 3.1). What it says of texts held apart is what a model says that never saw them.
struct MemorizationResult {
  MemorizationOptions options;
  Measure trained, held_out;             ///< Wilson intervals; n: texts tried
  int64_t short_trained = 0, short_held_out = 0;  ///< texts of fewer than prefix + length tokens, not tried
  std::vector<int64_t> reproduced;       ///< numbers of the training texts that came back
  Json to_json() const;                  ///< {trained: {value, low, high, n}, held_out: ..., prefix, length, reproduced: [...]}
};

/// `trained`, `held_out`: ids of whole texts. Error if none of a kind is long enough, or the model's context is shorter than prefix + length.
MemorizationResult memorization(const Decoder& model, const std::vector<std::vector<int32_t>>& trained,
                                const std::vector<std::vector<int32_t>>& held_out, const MemorizationOptions& options);

}  // namespace attar
