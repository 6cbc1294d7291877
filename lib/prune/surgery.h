#pragma once
#include <vector>

#include "model/checkpoint.h"

namespace attar {

/// What of one layer stays: ascending indices (n) int64 into the layer's own channels, kv heads and query heads (all of them, over all groups).
struct KeptLayer {
  int64_t layer = 0;  ///< its number in the whole model
  at::Tensor ffn, kv_heads, heads;
};

/// What of a model stays. Every kept kv head keeps the same number of its query heads.
struct Kept {
  at::Tensor hidden;  ///< (D') int64, ascending
  std::vector<KeptLayer> layers;
  double energy = 1;  ///< share of the hidden states' squares that the kept channels hold, for the norms; 1: the others are zero
};
/// Everything.
Kept kept_whole(const ModelSpec& spec);

/// A model to be cut and saved: weights that are stored as float32 stay in the mapped file, read only, and so may what a cut leaves whole; others are
/// converted.
Checkpoint load_to_cut(const fs::path& path);

/// The smaller model: rows and columns taken out of every tensor that reads or writes what goes; head size and rotary pairs stay whole.
/// A norm over D' of D channels divides by another mean. With E = `energy` the whole residual stream (embedding, o_proj, down_proj) is multiplied by
/// s = sqrt(D' / (D E)), which gives the norms their old mean at the old eps, and their weights by 1 / s: removing channels that are zero everywhere
/// changes nothing. Gemma's embedding scale, inferred by readers, becomes sqrt(D'); tied output matrices are compensated in the last norm.
Checkpoint cut(const Checkpoint& model, const Kept& kept);

}  // namespace attar
