#pragma once
#include <cmath>
#include <cstdint>

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
template <class Team>
ATTAR_HOST_DEVICE float norm_row_of_team(const float* x, const float* w, float* y, int64_t count, float eps, float offset, Team& team) {
  float part = 0;
  for (int64_t i = team.rank; i < count; i += team.size) part += x[i] * x[i];
  const float r = 1.0f / sqrtf(float(team.sum(part)) / float(count) + eps);
  for (int64_t i = team.rank; i < count; i += team.size) y[i] = norm_value(x[i], r, w[i], offset);
  return r;
}

template <class Team>
ATTAR_HOST_DEVICE void norm_backward_row_of_team(const float* dy, const float* x, const float* w, float r, float offset, float* dx, int64_t count,
                                                 Team& team) {
  float part = 0;
  for (int64_t i = team.rank; i < count; i += team.size) part += dy[i] * (w[i] + offset) * x[i];
  const float shared = float(team.sum(part)) / float(count) * r * r;
  for (int64_t i = team.rank; i < count; i += team.size) dx[i] = norm_slope(dy[i], x[i], w[i], r, offset, shared);
}

}  // namespace attar
