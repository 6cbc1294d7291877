#pragma once
#include <cmath>
#include <cstdint>

#include "blocks/blocks_32.h"
#include "blocks/blocks_decode.h"
#include "blocks/host_device.h"

// Searches for the scale of a few values, in ggml's order of operations: the order decides the last bit, and the last bit the code.
namespace attar {

constexpr float kZeroGroup = 1e-15f;  ///< magnitudes below count as zero
constexpr int kMostSearched = 32;     ///< values of the longest group

/// Half to even, by adding 1.5 * 2^23 and reading the last 22 bits: beyond 2^22 what these bits happen to hold, as in ggml.
ATTAR_HOST_DEVICE inline int32_t nearest_code(float value) {
  return int32_t(fp32_bits(value + 12582912.0f) & 0x007fffffu) - 0x00400000;
}
ATTAR_HOST_DEVICE inline int32_t clamp_code(int32_t code, int32_t low, int32_t high) { return code < low ? low : code > high ? high : code; }

/// Scale of codes -levels..levels-1 that fits x best under `weight` (null: x * x): from the scale that makes the peak the lowest
/// code, 18 neighbours 0.1 apart are tried. codes (n) are left as code + levels.
ATTAR_HOST_DEVICE inline float search_symmetric(int n, int levels, const float* x, const float* weight, uint8_t* codes) {
  const float peak = signed_peak(x, n);
  for (int i = 0; i < n; ++i) codes[i] = 0;
  if (fabsf(peak) < kZeroGroup) return 0;
  float scale = 0, best = 0;
  for (int trial = 0; trial < 19; ++trial) {
    const int step = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;
    const float inverse = step == 0 ? float(-levels) / peak : -(float(levels) + 0.1f * float(step)) / peak;
    float products = 0, squares = 0;
    for (int i = 0; i < n; ++i) {
      const float code = float(clamp_code(nearest_code(inverse * x[i]), -levels, levels - 1)), w = weight ? weight[i] : x[i] * x[i];
      products += w * x[i] * code;
      squares += w * code * code;
    }
    if (trial > 0 && !(squares > 0 && products * products > best * squares)) continue;
    scale = squares != 0 ? products / squares : 0.0f;
    best = scale * products;
    for (int i = 0; i < n; ++i) codes[i] = uint8_t(clamp_code(nearest_code(inverse * x[i]), -levels, levels - 1) + levels);
  }
  return scale;
}

/// The same grid improved one code at a time, five passes at most, under x * x (q3_k without importance).
ATTAR_HOST_DEVICE inline float search_by_descent(int n, int levels, const float* x, uint8_t* codes) {
  const float peak = signed_peak(x, n);
  for (int i = 0; i < n; ++i) codes[i] = 0;
  if (fabsf(peak) < kZeroGroup) return 0;
  const float inverse = float(-levels) / peak;
  int32_t code[kMostSearched];
  float products = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    code[i] = clamp_code(nearest_code(inverse * x[i]), -levels, levels - 1);
    const float w = x[i] * x[i];
    products += w * x[i] * float(code[i]);
    squares += w * float(code[i]) * float(code[i]);
  }
  bool changed = true;
  for (int pass = 0; pass < 5 && changed; ++pass) {
    changed = false;
    for (int i = 0; i < n; ++i) {
      const float w = x[i] * x[i];
      float without = products - w * x[i] * float(code[i]);
      if (!(without > 0)) continue;
      float squares_without = squares - w * float(code[i]) * float(code[i]);
      const int32_t next = clamp_code(nearest_code(x[i] * squares_without / without), -levels, levels - 1);
      if (next == code[i]) continue;
      without += w * x[i] * float(next);
      squares_without += w * float(next) * float(next);
      if (squares_without > 0 && without * without * squares > products * products * squares_without) {
        code[i] = next;
        products = without;
        squares = squares_without;
        changed = true;
      }
    }
  }
  for (int i = 0; i < n; ++i) codes[i] = uint8_t(code[i] + levels);
  return squares > 0 ? products / squares : 0.0f;
}

/// Which inverse scales search_affine tries: (first + step * k + top) / range for k = 0..last.
struct AffineTrials {
  float first, step;
  int last;
  bool absolute;  ///< absolute instead of squared error
};

/// scale and minimum (>= 0, to be subtracted) of codes 0..top under `weight`: every trial's codes give a weighted least squares fit;
/// the smallest error wins, and its minimum is the origin of the trials after it. codes (n).
ATTAR_HOST_DEVICE inline float search_affine(int n, int top, const float* x, const float* weight, const AffineTrials& trials, uint8_t* codes,
                                             float* minimum) {
  float low = x[0], high = x[0], sum_w = weight[0], sum_x = sum_w * x[0];
  for (int i = 1; i < n; ++i) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
    sum_w += weight[i];
    sum_x += weight[i] * x[i];
  }
  if (low > 0) low = 0;
  for (int i = 0; i < n; ++i) codes[i] = 0;
  *minimum = -low;
  if (high <= low) return 0;
  float inverse = float(top) / (high - low), scale = 1 / inverse, least = 0;
  for (int i = 0; i < n; ++i) {
    codes[i] = uint8_t(clamp_code(nearest_code(inverse * (x[i] - low)), 0, top));
    const float error = scale * float(codes[i]) + low - x[i];
    least += weight[i] * (trials.absolute ? fabsf(error) : error * error);
  }
  for (int k = 0; k <= trials.last; ++k) {
    inverse = (trials.first + trials.step * float(k) + float(top)) / (high - low);
    float sum_l = 0, sum_ll = 0, sum_xl = 0;
    uint8_t tried[kMostSearched];
    for (int i = 0; i < n; ++i) {
      tried[i] = uint8_t(clamp_code(nearest_code(inverse * (x[i] - low)), 0, top));
      const float code = float(tried[i]), w = weight[i];
      sum_l += w * code;
      sum_ll += w * code * code;
      sum_xl += w * code * x[i];
    }
    const float determinant = sum_w * sum_ll - sum_l * sum_l;
    if (!(determinant > 0)) continue;
    float fit = (sum_w * sum_xl - sum_x * sum_l) / determinant, origin = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
    if (origin > 0) {
      origin = 0;
      fit = sum_xl / sum_ll;
    }
    float total = 0;
    for (int i = 0; i < n; ++i) {
      const float error = fit * float(tried[i]) + origin - x[i];
      total += weight[i] * (trials.absolute ? fabsf(error) : error * error);
    }
    if (!(total < least)) continue;
    for (int i = 0; i < n; ++i) codes[i] = tried[i];
    least = total;
    scale = fit;
    low = origin;
  }
  *minimum = -low;
  return scale;
}

}  // namespace attar
