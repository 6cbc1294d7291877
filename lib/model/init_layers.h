#pragma once
#include "model/checkpoint.h"
#include "spec/model_stage_configs.h"

namespace attar {

/// Which layers of a model of `given` layers, counted from 1, a student of `wanted` layers begins with: those named, every k-th (k, 2k, ...), or
/// spread evenly with the first and the last. Error if their number or one of them does not fit.
std::vector<int64_t> chosen_layers(const InitConfig& config, int64_t wanted, int64_t given);

/// Weights for a student out of a bigger model of the same widths: its layers in the order of `layers`, its embedding, final norm and head (a
/// student with a head of its own takes the embedding where the bigger model is tied). Copies. Error naming the first tensor that does not fit.
StateDict weights_from_layers(const ModelSpec& student, const Checkpoint& from, const std::vector<int64_t>& layers);

}  // namespace attar
