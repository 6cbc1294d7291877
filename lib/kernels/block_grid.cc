#include "kernels/block_grid.h"

#include "base/check.h"
#include "blocks/blocks_k_scales.h"
#include "blocks/blocks_ternary.h"
#include "kernels/grid_math.h"

namespace attar {
namespace {

__attribute__((target_clones("avx512f", "avx2", "default"))) void round_whole(const float* w, const float* step, const float* low, int n,
                                                                              float lowest, float highest, uint8_t* codes, float* values) {
  for (int i = 0; i < n; ++i) {
    const float number = whole_number(w[i], {step[i], low[i]}, lowest, highest);
    codes[i] = uint8_t(int(number - lowest));
    values[i] = step[i] * number - low[i];
  }
}

}  // namespace

GridShape grid_shape(GgmlType type) {
  const GridShape shape = grid_shape_or_none(type);
  check(shape.block > 0, "grid", "a type of blocks", ggml_type_info(type).name);
  return shape;
}

float grid_number(GgmlType type, int code) {
  if (type == GgmlType::iq4_nl) return iq4_value(code);
  if (type == GgmlType::mxfp4) return mxfp4_value(code);
  return float(grid_shape(type).lowest + code);
}

void read_grid_scales(GgmlType type, const uint8_t* in, GridScales& out) {
  const GridShape shape = grid_shape(type);
  for (int part = 0; part < shape.block / shape.width; ++part) {
    const PartScale scale = part_scale(type, in, part);
    out.step[part] = scale.step, out.low[part] = scale.low;
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
  const GridShape shape = grid_shape(type);
  if (type == GgmlType::iq4_nl || type == GgmlType::mxfp4) {
    for (int i = 0; i < n; ++i) {
      codes[i] = uint8_t(type == GgmlType::iq4_nl ? iq4_code(weights[i], steps[i]) : mxfp4_code(weights[i], steps[i]));
      values[i] = rounded_value(type, shape, weights[i], {steps[i], 0});
    }
    return;
  }
  round_whole(weights, steps, lows, n, float(shape.lowest), float(shape.highest), codes, values);
}

}  // namespace attar
