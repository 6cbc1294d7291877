#pragma once
#include "spec/config_reader.h"
#include "spec/families.h"
#include "spec/model_spec.h"

namespace attar {

/// Fills spec.rope and spec.local_rope from rope_parameters, rope_scaling, rope_theta, rope_local_base_freq, partial_rotary_factor.
/// hidden, head_size and context must be set. Rope types that no forward pass here knows are faults.
void read_ropes(const ConfigReader& config, const Family& family, ModelSpec& spec);
/// The reverse: both styles of keys.
void write_ropes(const ModelSpec& spec, Json& config);
/// Fields that the kind does not use set to their defaults, `dims` of the whole head to 0: equal ropes compare equal.
RopeSpec plain_rope(const RopeSpec& rope, int64_t head_size, int64_t context);

}  // namespace attar
