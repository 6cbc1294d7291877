#pragma once
#include <cmath>
#include <cstdint>

#include "formats/ggml_types.h"
#include "kernels/block_grid.h"
#include "blocks/blocks_32.h"
#include "blocks/blocks_decode.h"
#include "blocks/blocks_k.h"

// Codes beside scales that are there already, and the slopes of scales that are learned: the arithmetic of one weight, for host and device.
namespace attar {

/// grid_shape() without an error: all 0 for types without blocks.
ATTAR_HOST_DEVICE inline GridShape grid_shape_or_none(GgmlType type) {
  switch (type) {
    case GgmlType::q8_0: return {32, 32, -127, 127, 255};
    case GgmlType::iq4_nl: case GgmlType::mxfp4: return {32, 32, 0, 0, 16};
    case GgmlType::tq1_0: case GgmlType::tq2_0: return {256, 256, -1, 1, 3};
    case GgmlType::q4_0: case GgmlType::q4_1: case GgmlType::q5_0: case GgmlType::q5_1:
    case GgmlType::q2_k: case GgmlType::q3_k: case GgmlType::q4_k: case GgmlType::q5_k: case GgmlType::q6_k: {
      const CodeShape shape = code_shape(type);
      const bool small = type == GgmlType::q4_0 || type == GgmlType::q4_1 || type == GgmlType::q5_0 || type == GgmlType::q5_1;
      return {small ? 32 : 256, shape.width, shape.lowest, shape.highest, shape.highest - shape.lowest + 1};
    }
    default: return {0, 0, 0, 0, 0};
  }
}

/// Step and low of a part (a run of GridShape::width weights) of a block.
struct PartScale {
  float step, low;
};
ATTAR_HOST_DEVICE inline PartScale part_scale(GgmlType type, const uint8_t* in, int part) {
  switch (type) {
    case GgmlType::q4_1: case GgmlType::q5_1: return {load_half(in), -load_half(in + 2)};
    case GgmlType::mxfp4: return {mxfp4_scale(in[0]), 0};
    case GgmlType::tq1_0: return {load_half(in + 52), 0};
    case GgmlType::tq2_0: return {load_half(in + 64), 0};
    case GgmlType::q2_k: return {load_half(in + 80) * float(in[part] & 15), load_half(in + 82) * float(in[part] >> 4)};
    case GgmlType::q3_k: return {load_half(in + 108) * float(scale_of_16(in + 96, part)), 0};
    case GgmlType::q4_k: case GgmlType::q5_k:
      return {load_half(in) * float(scale_of_8(in + 4, part)), load_half(in + 2) * float(minimum_of_8(in + 4, part))};
    case GgmlType::q6_k: return {load_half(in + 208) * float(int8_t(in[192 + part])), 0};
    default: return {load_half(in), 0};
  }
}

/// How many scales a block has where LSQ can learn them (a step, perhaps a minimum); 0: it cannot.
ATTAR_HOST_DEVICE inline int learned_scales(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0: case GgmlType::q5_0: case GgmlType::q8_0: case GgmlType::tq1_0: case GgmlType::tq2_0: return 1;
    case GgmlType::q4_1: case GgmlType::q5_1: return 2;
    default: return 0;
  }
}
/// What learned scales of a block (1 or 2 of them) are once fp16 has stored them.
ATTAR_HOST_DEVICE inline PartScale stored_scale(const float* scales, int count) {
  return {fp16_to_fp32(fp32_to_fp16(scales[0])), count > 1 ? -fp16_to_fp32(fp32_to_fp16(scales[1])) : 0.0f};
}

/// Whole number nearest to (w + low) / step, ties to even, held between the ends.
ATTAR_HOST_DEVICE inline float whole_number(float w, PartScale scale, float lowest, float highest) {
  const float share = scale.step != 0 ? (w + scale.low) / scale.step : 0.0f;
  const float nearest = (share + 12582912.0f) - 12582912.0f;  // half to even; beyond 2^22 it is clamped anyway
  const float number = nearest < lowest ? lowest : nearest;
  return number > highest ? highest : number;
}

/// Number of a code of iq4_nl, or magnitude of mxfp4's codes 0 to 7.
ATTAR_HOST_DEVICE inline float table_number(bool iq4, int code) { return iq4 ? iq4_value(code) : mxfp4_value(code); }
/// Numbers in rising order: how many midpoints lie below or at the value.
ATTAR_HOST_DEVICE inline int nearest_of_table(bool iq4, float value) {
  int code = 0;
  for (int k = 1; k < (iq4 ? 16 : 8); ++k) code += value >= (table_number(iq4, k - 1) + table_number(iq4, k)) * 0.5f;
  return code;
}
ATTAR_HOST_DEVICE inline int iq4_code(float w, float step) { return nearest_of_table(true, step != 0 ? w / step : 0.0f); }
ATTAR_HOST_DEVICE inline int mxfp4_code(float w, float step) {
  const int size = nearest_of_table(false, fabsf(w / step));
  return size == 0 || w > 0 ? size : size + 8;
}

/// Value that a reader sees of the code nearest to w.
ATTAR_HOST_DEVICE inline float rounded_value(GgmlType type, const GridShape& shape, float w, PartScale scale) {
  if (type == GgmlType::iq4_nl) return scale.step * iq4_value(iq4_code(w, scale.step));
  if (type == GgmlType::mxfp4) return mxfp4_value(mxfp4_code(w, scale.step)) * scale.step;
  return scale.step * whole_number(w, scale, float(shape.lowest), float(shape.highest)) - scale.low;
}

/// ONNX's int8: -127 to 127 steps.
constexpr float kRowInt8Top = 127.0f;
ATTAR_HOST_DEVICE inline float row_int8_number(float w, float step) {
  const float nearest = step != 0 ? nearbyintf(w / step) : 0.0f;
  return nearest < -kRowInt8Top ? -kRowInt8Top : nearest > kRowInt8Top ? kRowInt8Top : nearest;
}
/// Step of a row by its largest magnitude.
ATTAR_HOST_DEVICE inline float row_int8_step(float most) { return most > 0 && most / kRowInt8Top > 0 ? most / kRowInt8Top : 1.0f; }

/// Sums of LSQ's slopes over the weights of a step.
struct ScaleSlopes {
  double step = 0, minimum = 0;
};
/// Slope of a weight beside its step, given the slope g of its rounded value; adds the step's and the minimum's. A step of 0 cannot be divided by:
/// its weights learn as if nothing were rounded, and it stays.
ATTAR_HOST_DEVICE inline float weight_slope(float w, float g, PartScale scale, float lowest, float highest, ScaleSlopes& sums) {
  const float share = scale.step != 0 ? (w + scale.low) / scale.step : 0.0f, nearest = nearbyintf(share);
  const bool inside = nearest >= lowest && nearest <= highest;
  if (scale.step != 0) {
    sums.step += double(g) * (inside ? nearest - share : nearest < lowest ? lowest : highest);
    if (!inside) sums.minimum += g;
  }
  return inside ? g : 0.0f;
}
/// Members that share the slopes of a row's step: member m adds up columns m, m + 32, ..., and their sums are added in order.
constexpr int kRowLanes = 32;

}  // namespace attar
