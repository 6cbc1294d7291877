#pragma once
#include <cmath>
#include <cstdint>

#include "formats/ggml_types.h"
#include "blocks/blocks_k.h"
#include "blocks/blocks_k_scales.h"
#include "blocks/blocks_search.h"

namespace attar {

ATTAR_HOST_DEVICE inline float sum_of_squares(const float* x, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

/// Weights of sub-block j's values; see formats section 2.2.
ATTAR_HOST_DEVICE inline void sub_block_weights(GgmlType type, const float* x, const float* importance, float block_sum, int width, float* weight) {
  if (importance) {
    const float spread = type == GgmlType::q2_k ? block_sum / 256 : 2 * block_sum / 256;
    for (int i = 0; i < width; ++i) weight[i] = type == GgmlType::q6_k ? importance[i] : importance[i] * sqrtf(spread + x[i] * x[i]);
  } else if (type == GgmlType::q2_k) {
    for (int i = 0; i < width; ++i) weight[i] = fabsf(x[i]);
  } else if (type == GgmlType::q4_k || type == GgmlType::q5_k) {
    const float size = sqrtf(sum_of_squares(x, width) / float(width));
    for (int i = 0; i < width; ++i) weight[i] = size + fabsf(x[i]);
  } else {
    for (int i = 0; i < width; ++i) weight[i] = x[i] * x[i];
  }
}

/// One superblock of a K type: x (256), importance null or (256), out as the layout says.
ATTAR_HOST_DEVICE inline void encode_k(GgmlType type, const float* x, const float* importance, uint8_t* out) {
  const CodeShape shape = code_shape(type);
  const int width = shape.width, count = 256 / width, top = shape.highest;
  const float block_sum = importance ? sum_of_squares(x, 256) : 0;
  SearchedBlock found;
  for (int j = 0; j < count; ++j) {
    const float* sub = x + j * width;
    uint8_t* codes = found.codes + j * width;
    float weight[32];
    sub_block_weights(type, sub, importance ? importance + j * width : nullptr, block_sum, width, weight);
    found.weights[j] = 0;
    for (int i = 0; i < width; ++i) found.weights[j] += weight[i];
    if (shape.lowest == 0)
      found.scales[j] = search_affine(width, top, sub, weight, affine_trials(type, importance), codes, &found.minima[j]);
    else if (type == GgmlType::q3_k && !importance)
      found.scales[j] = search_by_descent(width, top + 1, sub, codes);
    else
      found.scales[j] = search_symmetric(width, top + 1, sub, weight, codes);
  }
  SubGrid grid[16];
  if (!write_scales(type, found, importance, out, grid)) return;
  for (int j = 0; j < count; ++j) {
    if (grid[j].step == 0) continue;
    for (int i = j * width; i < (j + 1) * width; ++i) {
      const int32_t code = nearest_code((x[i] + grid[j].low) / grid[j].step);
      found.codes[i] = uint8_t(clamp_code(code, shape.lowest, top) - shape.lowest);
    }
  }
  write_codes(type, found.codes, out);
}

}  // namespace attar
