#pragma once
#include <cmath>
#include <cstdint>

#include "blocks/ggml_half.h"
#include "kernels/vector_math.h"

// Arithmetic of rmsnorm, rope and swiglu for one value, and for one row shared by a team: a CUDA thread block, or one thread.
// A team has rank and size; its sum(double), max(float) and sync() are called by all members, and what a member wrote before is seen after.
namespace attar {

/// The team of one.
struct LoneTeam {
  int rank = 0, size = 1;
  ATTAR_HOST_DEVICE double sum(double value) { return value; }
  ATTAR_HOST_DEVICE float max(float value) { return value; }
  ATTAR_HOST_DEVICE void sync() {}
};

/// A bfloat16 as it lies in memory. Rows are of these or of float32; the arithmetic is float32's, rounded once when it is stored.
struct Brain16 {
  uint16_t bits;
};
ATTAR_INLINE float value_of(float x) { return x; }
ATTAR_INLINE float value_of(Brain16 x) { return bf16_to_fp32(x.bits); }
ATTAR_INLINE void store_value(float& place, float x) { place = x; }
ATTAR_INLINE void store_value(Brain16& place, float x) { place.bits = fp32_to_bf16(x); }

ATTAR_INLINE float gate_sigmoid(float x) { return 1.0f / (1.0f + vector_exp(-x)); }
ATTAR_INLINE float swiglu_value(float gate, float up) { return gate * gate_sigmoid(gate) * up; }
/// d/dgate and d/dup of swiglu_value, times dy.
ATTAR_INLINE void swiglu_slopes(float dy, float gate, float up, float& dgate, float& dup) {
  const float s = gate_sigmoid(gate), silu = gate * s;
  dup = dy * silu;
  dgate = dy * up * (s + silu * (1.0f - s));
}

/// Turns (a, b) by an angle.
ATTAR_INLINE void rotate_pair(float& a, float& b, float cos, float sin) {
  const float first = a, second = b;
  a = first * cos - second * sin;
  b = second * cos + first * sin;
}

ATTAR_INLINE float norm_value(float x, float r, float w, float offset) { return x * r * (w + offset); }
/// `shared`: r^2 mean(dy (w + offset) x).
ATTAR_INLINE float norm_slope(float dy, float x, float w, float r, float offset, float shared) { return r * (dy * (w + offset) - x * shared); }
/// One row's share of dw.
ATTAR_INLINE float norm_weight_slope(float dy, float x, float r) { return dy * (x * r); }

/// rms_norm_row (kernels/decoder_rows.h) but for the order in which its sum is taken. Returns r to every member.
template <class Value, class Team>
ATTAR_HOST_DEVICE float norm_row_of_team(const Value* x, const float* w, Value* y, int64_t count, float eps, float offset, Team& team) {
  float part = 0;
  for (int64_t i = team.rank; i < count; i += team.size) part += value_of(x[i]) * value_of(x[i]);
  const float r = 1.0f / sqrtf(float(team.sum(part)) / float(count) + eps);
  for (int64_t i = team.rank; i < count; i += team.size) store_value(y[i], norm_value(value_of(x[i]), r, w[i], offset));
  return r;
}

template <class Value, class Team>
ATTAR_HOST_DEVICE void norm_backward_row_of_team(const Value* dy, const Value* x, const float* w, float r, float offset, Value* dx, int64_t count,
                                                 Team& team) {
  float part = 0;
  for (int64_t i = team.rank; i < count; i += team.size) part += value_of(dy[i]) * (w[i] + offset) * value_of(x[i]);
  const float shared = float(team.sum(part)) / float(count) * r * r;
  for (int64_t i = team.rank; i < count; i += team.size)
    store_value(dx[i], norm_slope(value_of(dy[i]), value_of(x[i]), w[i], r, offset, shared));
}

/// The weight's partial sum over rows [begin, end) in one column, in their order.
template <class Value>
ATTAR_INLINE float norm_weight_part(const Value* dy, const Value* x, const float* rstd, int64_t begin, int64_t end, int64_t width, int64_t column) {
  float total = 0;
  for (int64_t row = begin; row < end; ++row)
    total += norm_weight_slope(value_of(dy[row * width + column]), value_of(x[row * width + column]), rstd[row]);
  return total;
}

/// Pair number `at` of all rows, heads and pairs of x (rows, heads, size); row r takes position r mod positions.
template <class Value>
ATTAR_INLINE void rotate_one(Value* x, const float* cos, const float* sin, int64_t positions, int64_t heads, int64_t size, int64_t half, float sign,
                             int64_t at) {
  const int64_t i = at % half, head = at / half % heads, row = at / half / heads, angle = row % positions * half + i;
  Value* place = x + (row * heads + head) * size + i;
  float a = value_of(place[0]), b = value_of(place[half]);
  rotate_pair(a, b, cos[angle], sign * sin[angle]);
  store_value(place[0], a);
  store_value(place[half], b);
}

template <class Value>
ATTAR_INLINE void swiglu_one(const Value* gate, const Value* up, Value* y, int64_t i) {
  store_value(y[i], swiglu_value(value_of(gate[i]), value_of(up[i])));
}
template <class Value>
ATTAR_INLINE void swiglu_slopes_one(const Value* dy, const Value* gate, const Value* up, Value* dgate, Value* dup, int64_t i) {
  float by_gate = 0, by_up = 0;
  swiglu_slopes(value_of(dy[i]), value_of(gate[i]), value_of(up[i]), by_gate, by_up);
  store_value(dgate[i], by_gate);
  store_value(dup[i], by_up);
}

/// Rows of one partial sum of a norm's weight gradient, on every device.
constexpr int64_t kNormPartRows = 128;

}  // namespace attar
