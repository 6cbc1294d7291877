#pragma once
#include <cstdint>

namespace attar {

/// The loops of rmsnorm, rope and swiglu over raw rows: one function per row or piece, so that the caller decides about threads.
/// All sums run in sixteen interleaved lanes joined in one order: the same bits with every instruction set.

/// y[i] = x[i] * r * (w[i] + offset), r = 1 / sqrt(mean(x^2) + eps); returns r.
float rms_norm_row(const float* x, const float* w, float* y, int64_t count, float eps, float offset);
/// dx of one row; adds the row's share of dw to dw[0..count).
void rms_norm_backward_row(const float* dy, const float* x, const float* w, float r, float offset, float* dx, float* dw, int64_t count);
/// Turns `heads` heads of `size` values at x, `half` pairs each; sign -1 turns back.
void rotate_row(float* x, int64_t heads, int64_t size, int64_t half, const float* cos, const float* sin, float sign);
/// y = gate * sigmoid(gate) * up.
void swiglu_row(const float* gate, const float* up, float* y, int64_t count);
void swiglu_backward_row(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t count);

}  // namespace attar
