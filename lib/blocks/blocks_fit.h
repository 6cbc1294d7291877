#pragma once
#include <cmath>
#include <cstdint>

#include "blocks/blocks_search.h"

namespace attar {

/// Scale of codes 0..top for values >= 0 (the scales or minima of sub-blocks) under `weight`: eight neighbours of the plain scale,
/// then one code at a time, five passes at most. codes (n), kept in bytes as ggml keeps them.
ATTAR_HOST_DEVICE inline float fit_positive(int n, int top, const float* x, const float* weight, uint8_t* codes) {
  float peak = 0;
  for (int i = 0; i < n; ++i) peak = peak > x[i] ? peak : x[i];
  for (int i = 0; i < n; ++i) codes[i] = 0;
  if (peak < kZeroGroup) return 0;
  float inverse = float(top) / peak, least = 0;
  const float scale = 1 / inverse;
  for (int i = 0; i < n; ++i) {
    const float error = x[i] - scale * float(uint8_t(nearest_code(inverse * x[i])));
    least += weight[i] * error * error;
  }
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float inverse_tried = (0.1f * float(step) + float(top)) / peak, scale_tried = 1 / inverse_tried;
    float total = 0;
    for (int i = 0; i < n; ++i) {
      const int32_t code = nearest_code(inverse_tried * x[i]);
      const float error = x[i] - scale_tried * float(code < top ? code : top);
      total += weight[i] * error * error;
    }
    if (total < least) {
      least = total;
      inverse = inverse_tried;
    }
  }
  float products = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const int32_t code = nearest_code(inverse * x[i]), capped = code < top ? code : top;
    codes[i] = uint8_t(capped);
    products += weight[i] * x[i] * float(capped);
    squares += weight[i] * float(capped) * float(capped);
  }
  bool changed = true;
  for (int pass = 0; pass < 5 && changed; ++pass) {
    changed = false;
    for (int i = 0; i < n; ++i) {
      const float w = weight[i];
      float without = products - w * x[i] * float(codes[i]), squares_without = squares - w * float(codes[i]) * float(codes[i]);
      if (!(without > 0 && squares_without > 0)) continue;
      const int32_t code = nearest_code(x[i] * squares_without / without), next = code < top ? code : top;
      if (next == int32_t(codes[i])) continue;
      without += w * x[i] * float(next);
      squares_without += w * float(next) * float(next);
      if (without * without * squares > products * products * squares_without) {
        codes[i] = uint8_t(next);
        products = without;
        squares = squares_without;
        changed = true;
      }
    }
  }
  return squares > 0 ? products / squares : 0.0f;
}

/// The entry of iq4_nl's table nearest to x; of two equally near ones the larger.
ATTAR_HOST_DEVICE inline int nearest_iq4(float x) {
  if (x <= iq4_value(0)) return 0;
  if (x >= iq4_value(15)) return 15;
  int low = 0, high = 15;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (x < iq4_value(middle) ? high : low) = middle;
  }
  return x - iq4_value(low) < iq4_value(high) - x ? low : high;
}

/// Scale for iq4_nl's table: the one that puts the peak on the lowest entry, then 15 that put it on -120..-134.
ATTAR_HOST_DEVICE inline float search_iq4(const float* x, const float* weight) {
  const float peak = signed_peak(x, 32);
  if (fabsf(peak) < kZeroGroup) return 0;
  float scale = 0, best = 0;
  for (int trial = -8; trial <= 7; ++trial) {
    const float inverse = trial == -8 ? 1 / (-peak / iq4_value(0)) : (float(trial) + iq4_value(0)) / peak;
    float products = 0, squares = 0;
    for (int i = 0; i < 32; ++i) {
      const float value = iq4_value(nearest_iq4(inverse * x[i]));
      products += weight[i] * value * x[i];
      squares += weight[i] * value * value;
    }
    if (trial > -8 && !(squares > 0 && products * products > best * squares)) continue;
    scale = squares > 0 ? products / squares : 0.0f;
    best = scale * products;
  }
  return scale;
}

}  // namespace attar
