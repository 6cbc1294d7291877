#pragma once
#include "base/json.h"
#include "eval/positions.h"

namespace attar {

/// What a cache of keys and values of this type (f16, q8_0, q4_0) costs a model: {type, perplexity, kld, top1_agreement}, against the same model with
/// its cache in float32, over the same positions. Simulated: every key and value goes through the type's blocks before attention. Error if
/// the type's blocks do not divide the heads.
Json kv_cache_cost(const Decoder& model, const std::string& type, ScoredPositions& positions);

}  // namespace attar
