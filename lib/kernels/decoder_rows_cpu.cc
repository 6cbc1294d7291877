#include "kernels/decoder_rows.h"

#include <cmath>

#include "kernels/vector_math.h"

namespace attar {
namespace {

constexpr int64_t kLanes = 16;

/// Joins lanes in pairs, halving.
ATTAR_INLINE float join_lanes(float* lanes) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

ATTAR_INLINE float row_sigmoid(float x) { return 1.0f / (1.0f + vector_exp(-x)); }

ATTAR_INLINE float rms_norm_row_body(const float* __restrict x, const float* __restrict w, float* __restrict y, int64_t count, float eps,
                                     float offset) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += x[i + l] * x[i + l];
  for (; i < count; ++i) lanes[i % kLanes] += x[i] * x[i];
  const float r = 1.0f / std::sqrt(join_lanes(lanes) / static_cast<float>(count) + eps);
  for (i = 0; i < count; ++i) y[i] = x[i] * r * (w[i] + offset);
  return r;
}

ATTAR_INLINE void rms_norm_backward_row_body(const float* __restrict dy, const float* __restrict x, const float* __restrict w, float r, float offset,
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

ATTAR_INLINE void rotate_row_body(float* __restrict x, int64_t heads, int64_t size, int64_t half, const float* __restrict cos,
                                  const float* __restrict sin, float sign) {
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

ATTAR_INLINE void swiglu_row_body(const float* __restrict gate, const float* __restrict up, float* __restrict y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = gate[i] * row_sigmoid(gate[i]) * up[i];
}

ATTAR_INLINE void swiglu_backward_row_body(const float* __restrict dy, const float* __restrict gate, const float* __restrict up,
                                           float* __restrict dgate, float* __restrict dup, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float g = gate[i], s = row_sigmoid(g), silu = g * s;
    dup[i] = dy[i] * silu;
    dgate[i] = dy[i] * up[i] * (s + silu * (1.0f - s));
  }
}

/// One source compiled for three instruction sets; contraction is off, so all of them give the same bits.
#define ATTAR_ROW_SET(NAME, TARGET)                                                                                                      \
  struct NAME {                                                                                                                          \
    TARGET static float norm(const float* x, const float* w, float* y, int64_t count, float eps, float offset) {                         \
      return rms_norm_row_body(x, w, y, count, eps, offset);                                                                             \
    }                                                                                                                                    \
    TARGET static void norm_back(const float* dy, const float* x, const float* w, float r, float offset, float* dx, float* dw, int64_t count) { \
      rms_norm_backward_row_body(dy, x, w, r, offset, dx, dw, count);                                                                    \
    }                                                                                                                                    \
    TARGET static void rotate(float* x, int64_t heads, int64_t size, int64_t half, const float* cos, const float* sin, float sign) {     \
      rotate_row_body(x, heads, size, half, cos, sin, sign);                                                                             \
    }                                                                                                                                    \
    TARGET static void swiglu(const float* gate, const float* up, float* y, int64_t count) { swiglu_row_body(gate, up, y, count); }       \
    TARGET static void swiglu_back(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t count) {        \
      swiglu_backward_row_body(dy, gate, up, dgate, dup, count);                                                                         \
    }                                                                                                                                    \
  };
ATTAR_ROW_SET(PlainRows, )
ATTAR_ROW_SET(Avx2Rows, __attribute__((target("avx2"))))
ATTAR_ROW_SET(Avx512Rows, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))))
#undef ATTAR_ROW_SET

enum class RowSet { plain, avx2, avx512 };
RowSet row_set() {
  static const RowSet chosen = [] {
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
    return wide ? RowSet::avx512 : __builtin_cpu_supports("avx2") ? RowSet::avx2 : RowSet::plain;
  }();
  return chosen;
}

}  // namespace

float rms_norm_row(const float* x, const float* w, float* y, int64_t count, float eps, float offset) {
  switch (row_set()) {
    case RowSet::avx512: return Avx512Rows::norm(x, w, y, count, eps, offset);
    case RowSet::avx2: return Avx2Rows::norm(x, w, y, count, eps, offset);
    default: return PlainRows::norm(x, w, y, count, eps, offset);
  }
}

void rms_norm_backward_row(const float* dy, const float* x, const float* w, float r, float offset, float* dx, float* dw, int64_t count) {
  switch (row_set()) {
    case RowSet::avx512: return Avx512Rows::norm_back(dy, x, w, r, offset, dx, dw, count);
    case RowSet::avx2: return Avx2Rows::norm_back(dy, x, w, r, offset, dx, dw, count);
    default: return PlainRows::norm_back(dy, x, w, r, offset, dx, dw, count);
  }
}

void rotate_row(float* x, int64_t heads, int64_t size, int64_t half, const float* cos, const float* sin, float sign) {
  switch (row_set()) {
    case RowSet::avx512: return Avx512Rows::rotate(x, heads, size, half, cos, sin, sign);
    case RowSet::avx2: return Avx2Rows::rotate(x, heads, size, half, cos, sin, sign);
    default: return PlainRows::rotate(x, heads, size, half, cos, sin, sign);
  }
}

void swiglu_row(const float* gate, const float* up, float* y, int64_t count) {
  switch (row_set()) {
    case RowSet::avx512: return Avx512Rows::swiglu(gate, up, y, count);
    case RowSet::avx2: return Avx2Rows::swiglu(gate, up, y, count);
    default: return PlainRows::swiglu(gate, up, y, count);
  }
}

void swiglu_backward_row(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t count) {
  switch (row_set()) {
    case RowSet::avx512: return Avx512Rows::swiglu_back(dy, gate, up, dgate, dup, count);
    case RowSet::avx2: return Avx2Rows::swiglu_back(dy, gate, up, dgate, dup, count);
    default: return PlainRows::swiglu_back(dy, gate, up, dgate, dup, count);
  }
}

}  // namespace attar
