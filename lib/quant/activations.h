#pragma once
#include <set>

#include "model/decoder.h"

namespace attar {

/// Inputs of quantized weights as a runtime rounds them, simulated in float32 with gradients straight through.
/// int8: each token by the range of its values and 0, unsigned bytes with a zero point (ONNX, DynamicQuantizeLinear).
/// q8_0: blocks of 32 with an fp16 scale (ggml); widths that 32 does not divide stay as they are, as in files such weights do.
enum class ActivationGrid { int8, q8_0 };

/// x (.., width), any device, float types -> the same shape and type.
at::Tensor round_activations(const at::Tensor& x, ActivationGrid grid);

/// Hook for the decoder: rounds what enters the linears (and the output matrix) of these names.
Decoder::InputHook fake_activations(std::set<std::string> weights, ActivationGrid grid);

/// Hook for the decoder's keys and values (B, K, T, d): as a cache of this type (f16, q8_0, q4_0) gives them back, one row of blocks per position
/// and head. Error if the type's blocks do not divide `head_size`. Source: ggml, --cache-type-k and -v.
std::function<at::Tensor(const at::Tensor&)> fake_kv_cache(const std::string& type, int64_t head_size);

}  // namespace attar
