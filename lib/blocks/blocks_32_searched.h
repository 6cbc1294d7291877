#pragma once
#include <cmath>
#include <cstdint>

#include "formats/ggml_types.h"
#include "blocks/blocks_32.h"
#include "blocks/blocks_fit.h"
#include "blocks/blocks_k.h"
#include "blocks/blocks_search.h"

namespace attar {

/// importance null or (32).
ATTAR_HOST_DEVICE inline void encode_iq4_nl(const float* x, const float* importance, uint8_t* out) {
  float mean = 0, weight[32];
  for (int i = 0; i < 32; ++i) mean += x[i] * x[i];
  mean *= 2.0f / 32;
  for (int i = 0; i < 32; ++i) weight[i] = importance ? importance[i] * sqrtf(mean + x[i] * x[i]) : x[i] * x[i];
  const float scale = search_iq4(x, weight), inverse = inverse_or_zero(scale);
  uint8_t codes[32];
  for (int i = 0; i < 32; ++i) codes[i] = uint8_t(nearest_iq4(inverse * x[i]));
  store_half(out, scale);
  pack_nibbles(codes, out + 2);
}

/// iq4_nl, and q4_0, q4_1, q5_0, q5_1 with importance (32): x (32), row_mean_square of the block's whole row.
ATTAR_HOST_DEVICE inline void encode_searched_32(GgmlType type, const float* x, const float* importance, float row_mean_square, uint8_t* out) {
  if (type == GgmlType::iq4_nl) return encode_iq4_nl(x, importance, out);
  float weight[32];
  for (int i = 0; i < 32; ++i) weight[i] = importance[i] * sqrtf(row_mean_square + x[i] * x[i]);
  uint8_t codes[32];
  if (type == GgmlType::q4_0 || type == GgmlType::q5_0) {
    const bool four = type == GgmlType::q4_0;
    store_half(out, search_symmetric(32, four ? 8 : 16, x, weight, codes));
    pack_nibbles(codes, four ? out + 2 : out + 6, four ? nullptr : out + 2);
  } else {
    const bool four = type == GgmlType::q4_1;
    float minimum = 0;
    store_half(out, search_affine(32, four ? 15 : 31, x, weight, affine_trials(type, true), codes, &minimum));
    store_half(out + 2, -minimum);
    pack_nibbles(codes, four ? out + 4 : out + 8, four ? nullptr : out + 4);
  }
}

}  // namespace attar
