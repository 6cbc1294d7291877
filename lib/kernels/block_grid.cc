#include "kernels/block_grid.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/blocks_32.h"
#include "kernels/blocks_decode.h"
#include "kernels/blocks_k.h"
#include "kernels/blocks_k_scales.h"
#include "kernels/blocks_ternary.h"

namespace attar {
namespace {

/// Whole numbers: nearest, ties to even, held between the ends.
__attribute__((target_clones("avx512f", "avx2", "default"))) void round_whole(const float* w, const float* step, const float* low, int n,
                                                                              float lowest, float highest, uint8_t* codes, float* values) {
  for (int i = 0; i < n; ++i) {
    const float share = step[i] != 0 ? (w[i] + low[i]) / step[i] : 0.0f;
    const float nearest = (share + 12582912.0f) - 12582912.0f;  // half to even; beyond 2^22 it is clamped anyway
    float number = nearest < lowest ? lowest : nearest;
    number = number > highest ? highest : number;
    codes[i] = uint8_t(int(number - lowest));
    values[i] = step[i] * number - low[i];
  }
}

/// Numbers in rising order: how many midpoints lie below or at the value.
int nearest_of_table(const float* numbers, int count, float value) {
  int code = 0;
  for (int k = 1; k < count; ++k) code += value >= (numbers[k - 1] + numbers[k]) * 0.5f;
  return code;
}

void round_iq4(const float* w, const float* step, int n, uint8_t* codes, float* values) {
  float numbers[16];
  for (int k = 0; k < 16; ++k) numbers[k] = iq4_value(k);
  for (int i = 0; i < n; ++i) {
    codes[i] = uint8_t(nearest_of_table(numbers, 16, step[i] != 0 ? w[i] / step[i] : 0.0f));
    values[i] = step[i] * numbers[codes[i]];
  }
}

void round_mxfp4(const float* w, const float* step, int n, uint8_t* codes, float* values) {
  float sizes[8];
  for (int k = 0; k < 8; ++k) sizes[k] = mxfp4_value(k);
  for (int i = 0; i < n; ++i) {
    const int size = nearest_of_table(sizes, 8, std::fabs(w[i] / step[i]));
    codes[i] = uint8_t(size == 0 || w[i] > 0 ? size : size + 8);
    values[i] = mxfp4_value(codes[i]) * step[i];
  }
}

}  // namespace

GridShape grid_shape(GgmlType type) {
  switch (type) {
    case GgmlType::q8_0: return {32, 32, -127, 127, 255};
    case GgmlType::iq4_nl: case GgmlType::mxfp4: return {32, 32, 0, 0, 16};
    case GgmlType::tq1_0: case GgmlType::tq2_0: return {256, 256, -1, 1, 3};
    case GgmlType::q4_0: case GgmlType::q4_1: case GgmlType::q5_0: case GgmlType::q5_1:
    case GgmlType::q2_k: case GgmlType::q3_k: case GgmlType::q4_k: case GgmlType::q5_k: case GgmlType::q6_k: {
      const CodeShape shape = code_shape(type);
      return {int(ggml_type_info(type).block), shape.width, shape.lowest, shape.highest, shape.highest - shape.lowest + 1};
    }
    default: fail("grid", "a type of blocks", ggml_type_info(type).name);
  }
}

float grid_number(GgmlType type, int code) {
  if (type == GgmlType::iq4_nl) return iq4_value(code);
  if (type == GgmlType::mxfp4) return mxfp4_value(code);
  return float(grid_shape(type).lowest + code);
}

void read_grid_scales(GgmlType type, const uint8_t* in, GridScales& out) {
  const auto one = [&](float step, float low) { out.step[0] = step, out.low[0] = low; };
  switch (type) {
    case GgmlType::q4_1: case GgmlType::q5_1: return one(load_half(in), -load_half(in + 2));
    case GgmlType::mxfp4: return one(mxfp4_scale(in[0]), 0);
    case GgmlType::tq1_0: return one(load_half(in + 52), 0);
    case GgmlType::tq2_0: return one(load_half(in + 64), 0);
    case GgmlType::q2_k:
      for (int j = 0; j < 16; ++j) out.step[j] = load_half(in + 80) * float(in[j] & 15), out.low[j] = load_half(in + 82) * float(in[j] >> 4);
      return;
    case GgmlType::q3_k:
      for (int j = 0; j < 16; ++j) out.step[j] = load_half(in + 108) * float(scale_of_16(in + 96, j)), out.low[j] = 0;
      return;
    case GgmlType::q4_k: case GgmlType::q5_k:
      for (int j = 0; j < 8; ++j)
        out.step[j] = load_half(in) * float(scale_of_8(in + 4, j)), out.low[j] = load_half(in + 2) * float(minimum_of_8(in + 4, j));
      return;
    case GgmlType::q6_k:
      for (int j = 0; j < 16; ++j) out.step[j] = load_half(in + 208) * float(int8_t(in[192 + j])), out.low[j] = 0;
      return;
    default: return one(load_half(in), 0);
  }
}

void write_grid_codes(GgmlType type, const uint8_t* codes, uint8_t* out) {
  switch (type) {
    case GgmlType::q8_0:
      for (int i = 0; i < 32; ++i) out[2 + i] = uint8_t(int(codes[i]) - 127);
      return;
    case GgmlType::q4_0: case GgmlType::iq4_nl: return pack_nibbles(codes, out + 2);
    case GgmlType::mxfp4: return pack_nibbles(codes, out + 1);
    case GgmlType::q4_1: return pack_nibbles(codes, out + 4);
    case GgmlType::q5_0: return pack_nibbles(codes, out + 6, out + 2);
    case GgmlType::q5_1: return pack_nibbles(codes, out + 8, out + 4);
    case GgmlType::tq1_0: return pack_tq1_0([codes](int i) { return int(codes[i]); }, out);
    case GgmlType::tq2_0: return pack_two_bits(codes, out);
    default: return write_codes(type, codes, out);
  }
}

void round_to_grid(GgmlType type, const float* weights, const float* steps, const float* lows, int n, uint8_t* codes, float* values) {
  if (type == GgmlType::iq4_nl) return round_iq4(weights, steps, n, codes, values);
  if (type == GgmlType::mxfp4) return round_mxfp4(weights, steps, n, codes, values);
  const GridShape shape = grid_shape(type);
  round_whole(weights, steps, lows, n, float(shape.lowest), float(shape.highest), codes, values);
}

}  // namespace attar
