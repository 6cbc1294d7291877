#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "blocks/host_device.h"

// Elementary functions without branches or calls, so that a loop over them becomes vector code on whatever instruction set its function is
// compiled for. No fused multiply-add: every instruction set gives the same value. The double overloads are libm's: they serve checks in float64.
#define ATTAR_INLINE ATTAR_HOST_DEVICE inline __attribute__((always_inline))

namespace attar {

/// e^x within 1.5 units in the last place; 0 below -87.7, clamped above 88.3; NaN stays NaN.
/// x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r), q fitted on Chebyshev nodes, error 1e-8. At the lower clamp n is -127, whose power of
/// two comes out as 0: one comparison more would become a branch and keep the loop from being vector code.
ATTAR_INLINE float vector_exp(float x) {
  const float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const float low = x < -88.0f ? -88.0f : x;
  const float in = low > 88.3f ? 88.3f : low;
  const float shifted = in * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (in - n * 0.693145751953125f) - n * 1.42860682e-6f;
  const float q = 0.5f + r * (0.16666576f + r * (0.041666467f + r * (0.008363175f + r * 0.0013933644f)));
  const int32_t power = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  return (1.0f + (r + r * r * q)) * std::bit_cast<float>((power + 127) << 23);
}
ATTAR_INLINE double vector_exp(double x) { return std::exp(x); }

/// Natural logarithm of a positive normal number, within 2 units in the last place of its larger part.
/// x = 2^n m, m in [sqrt(1/2), sqrt 2): log m = 2 atanh s, s = (m - 1) / (m + 1), by its series.
ATTAR_INLINE float vector_log(float x) {
  const int32_t bits = std::bit_cast<int32_t>(x);
  const int32_t n = (bits - 0x3f3504f3) >> 23;
  const float m = std::bit_cast<float>(bits - (n << 23));
  const float s = (m - 1.0f) / (m + 1.0f);
  const float square = s * s;
  const float series = 2.0f + square * (0.666666667f + square * (0.4f + square * (0.285714286f + square * 0.222222222f)));
  const float whole = static_cast<float>(n);
  return s * series + whole * 1.42860682e-6f + whole * 0.693145751953125f;
}
ATTAR_INLINE double vector_log(double x) { return std::log(x); }

/// Hyperbolic tangent with an absolute error below 1e-7 (what soft caps need).
ATTAR_INLINE float vector_tanh(float x) {
  const float doubled = 2.0f * x;
  const float capped = doubled > 40.0f ? 40.0f : doubled;
  return 1.0f - 2.0f / (vector_exp(capped) + 1.0f);
}
ATTAR_INLINE double vector_tanh(double x) { return std::tanh(x); }

}  // namespace attar
