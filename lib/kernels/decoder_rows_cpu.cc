#include "kernels/decoder_rows.h"

#include <bit>
#include <cmath>

// One source, three instruction sets, chosen when the program starts. Contraction is off, so all of them give the same bits.
#define ATTAR_ROW_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"), optimize("O3", "no-math-errno", "no-trapping-math")))

namespace attar {
namespace {

constexpr int64_t kLanes = 16;

/// Joins lanes in pairs, halving.
__attribute__((always_inline)) inline float join_lanes(float* lanes) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

/// exp by range reduction to [-ln2/2, ln2/2] and a polynomial of degree 6 (relative error below 2e-7).
__attribute__((always_inline)) inline float row_exp(float x) {
  constexpr float kLog2e = 1.44269504088896341f, kHigh = 0.693359375f, kLow = -2.12194440e-4f, kMagic = 12582912.0f;
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * kLog2e + kMagic;
  const float n = shifted - kMagic;
  const float r = (x - n * kHigh) - n * kLow;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  const int32_t exponent = (std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kMagic)) << 23;
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + exponent);
}

__attribute__((always_inline)) inline float row_sigmoid(float x) { return 1.0f / (1.0f + row_exp(-x)); }

}  // namespace

ATTAR_ROW_CLONES
float rms_norm_row(const float* __restrict x, const float* __restrict w, float* __restrict y, int64_t count, float eps, float offset) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += x[i + l] * x[i + l];
  for (; i < count; ++i) lanes[i % kLanes] += x[i] * x[i];
  const float r = 1.0f / std::sqrt(join_lanes(lanes) / static_cast<float>(count) + eps);
  for (i = 0; i < count; ++i) y[i] = x[i] * r * (w[i] + offset);
  return r;
}

ATTAR_ROW_CLONES
void rms_norm_backward_row(const float* __restrict dy, const float* __restrict x, const float* __restrict w, float r, float offset,
                           float* __restrict dx, float* __restrict dw, int64_t count) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += dy[i + l] * (w[i + l] + offset) * x[i + l];
  for (; i < count; ++i) lanes[i % kLanes] += dy[i] * (w[i] + offset) * x[i];
  // d/dx of x r (w + o): r (dy (w + o) - x r^2 mean(dy (w + o) x)).
  const float shared = join_lanes(lanes) / static_cast<float>(count) * r * r;
  for (i = 0; i < count; ++i) {
    const float g = dy[i];
    dw[i] += g * (x[i] * r);
    dx[i] = r * (g * (w[i] + offset) - x[i] * shared);
  }
}

ATTAR_ROW_CLONES
void rotate_row(float* __restrict x, int64_t heads, int64_t size, int64_t half, const float* __restrict cos, const float* __restrict sin,
                float sign) {
  for (int64_t h = 0; h < heads; ++h) {
    float* __restrict a = x + h * size;
    float* __restrict b = a + half;
    for (int64_t i = 0; i < half; ++i) {
      const float s = sign * sin[i], first = a[i], second = b[i];
      a[i] = first * cos[i] - second * s;
      b[i] = second * cos[i] + first * s;
    }
  }
}

ATTAR_ROW_CLONES
void swiglu_row(const float* __restrict gate, const float* __restrict up, float* __restrict y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = gate[i] * row_sigmoid(gate[i]) * up[i];
}

ATTAR_ROW_CLONES
void swiglu_backward_row(const float* __restrict dy, const float* __restrict gate, const float* __restrict up, float* __restrict dgate,
                         float* __restrict dup, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = gate[i], s = row_sigmoid(g), silu = g * s;
    dup[i] = dy[i] * silu;
    dgate[i] = dy[i] * up[i] * (s + silu * (1.0f - s));
  }
}

}  // namespace attar

#undef ATTAR_ROW_CLONES
