#pragma once
#include "calibrate/layer_walk.h"
#include "quant/quantize.h"

namespace attar {

struct RoundingOptions {
  int64_t steps = 200, rows = 8;  ///< rows: calibration rows of a step, over all ranks
  double size = 0;                ///< of the first step, in levels; it falls to 0 in a line. 0: 1 / steps
  bool scales = true;             ///< factors of the scales are learned too, where a type has one a block in fp16
  uint64_t seed = 0;              ///< of the rows' order
};

/// Mean squared difference of a layer's outputs to the model's before quantization, over all calibration rows.
struct RoundedLayer {
  double before, after;  ///< with the codes it began with; with those it has
};
struct RoundingReport {
  std::vector<RoundedLayer> layers;
  std::vector<std::string> not_learned;  ///< weights of layers that keep the codes they began with: their type's levels are not evenly spaced
};

/// Block reconstruction: layer after layer, offsets of the rounding (learned_rounding.h) by sign-gradient descent on the difference between two
/// outputs. One is the layer's with its codes, reading what the layers before it, already on their grids, give; the other that layer's of the
/// model before quantization on that model's own inputs, so that a layer makes up for those before it. All rows judge the codes at the start, after
/// each quarter of the steps and at the end; the best are kept, so no layer's error is above what it began with.
/// `start`: codes of every weight to be quantized, layers' and others; what lies outside the layers stays so. On return `codes` holds them all
/// and `weights` exactly their values. `kept`: a folder for the codes of finished layers, from where a call that was ended goes on, to the same
/// bytes; empty: none. Between steps a signal throws Stopped. Same bits for the same seed, threads and ranks.
/// Source: Cheng et al. 2023 (SignRound, arXiv 2309.05516), section 3; the reconstruction of blocks: Li et al. 2021 (BRECQ, arXiv 2102.05426).
RoundingReport learn_rounding(Checkpoint& model, const std::map<std::string, QuantizedTensor>& start, const TokenRows& rows,
                              const LayerWalkOptions& walk, const RoundingOptions& options, ProcessGroup& group, const fs::path& kept = {});

}  // namespace attar
