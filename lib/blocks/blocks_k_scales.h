#pragma once
#include <cmath>
#include <cstdint>

#include "formats/ggml_types.h"
#include "blocks/blocks_fit.h"
#include "blocks/blocks_k.h"
#include "blocks/blocks_search.h"

namespace attar {

/// Codes 0..top of values >= 0 against their largest, whose share of top is the scale.
ATTAR_HOST_DEVICE inline float share_of_largest(int n, int top, const float* values, uint8_t* codes) {
  float largest = 0;
  for (int j = 0; j < n; ++j) largest = values[j] > largest ? values[j] : largest;
  const float inverse = largest > 0 ? float(top) / largest : 0.0f;
  for (int j = 0; j < n; ++j) {
    codes[j] = uint8_t(nearest_code(inverse * values[j]));
  }
  return largest > 0 ? largest / float(top) : 0.0f;
}

ATTAR_HOST_DEVICE inline void write_scales_affine(GgmlType type, const SearchedBlock& found, bool importance, uint8_t* out, SubGrid* grid) {
  const bool two = type == GgmlType::q2_k;
  const int n = two ? 16 : 8, top = two ? 15 : 63;
  uint8_t scales[16], minima[16];
  const float scale = importance ? fit_positive(n, top, found.scales, found.weights, scales) : share_of_largest(n, top, found.scales, scales);
  const float minimum = importance ? fit_positive(n, top, found.minima, found.weights, minima) : share_of_largest(n, top, found.minima, minima);
  // A fit may be below zero, its code then a large byte: ggml cuts it off everywhere but here.
  for (int j = 0; j < n && !two && !(importance && type == GgmlType::q4_k); ++j) {
    scales[j] = scales[j] < 63 ? scales[j] : 63;
    minima[j] = minima[j] < 63 ? minima[j] : 63;
  }
  uint8_t* halves = two ? out + 80 : out;
  store_half(halves, scale);
  store_half(halves + 2, minimum);
  if (two) {
    for (int j = 0; j < 16; ++j) out[j] = uint8_t(scales[j] | minima[j] << 4);
  } else {
    pack_scales_of_8(scales, minima, out + 4);
  }
  const float step = load_half(halves), low = load_half(halves + 2);
  for (int j = 0; j < n; ++j) {
    grid[j].step = step * float(two ? out[j] & 15 : scale_of_8(out + 4, j));
    grid[j].low = low * float(two ? out[j] >> 4 : minimum_of_8(out + 4, j));
  }
}

ATTAR_HOST_DEVICE inline void write_scales_q3(const SearchedBlock& found, bool importance, uint8_t* out, SubGrid* grid) {
  uint8_t scales[16];
  if (importance) {
    store_half(out + 108, search_symmetric(16, 32, found.scales, found.weights, scales));
  } else {
    const float peak = signed_peak(found.scales, 16), inverse = peak != 0 ? -32.0f / peak : 0.0f;
    // Where every scale is zero the packed codes are 0 too, not the middle one.
    for (int j = 0; j < 16; ++j) scales[j] = peak != 0 ? uint8_t(clamp_code(int8_t(nearest_code(inverse * found.scales[j])), -32, 31) + 32) : 0;
    store_half(out + 108, peak != 0 ? 1 / inverse : 0.0f);
  }
  pack_scales_of_16(scales, out + 96);
  const float scale = load_half(out + 108);
  for (int j = 0; j < 16; ++j) grid[j] = {scale * float(scale_of_16(out + 96, j)), 0};
}

ATTAR_HOST_DEVICE inline bool write_scales_q6(const SearchedBlock& found, uint8_t* out, SubGrid* grid) {
  const float peak = signed_peak(found.scales, 16);
  if (fabsf(peak) < kZeroGroup) {
    for (int i = 0; i < 210; ++i) out[i] = 0;
    return false;
  }
  const float inverse = -128.0f / peak;
  store_half(out + 208, 1 / inverse);
  const float scale = load_half(out + 208);
  for (int j = 0; j < 16; ++j) {
    const int32_t code = nearest_code(inverse * found.scales[j]);
    out[192 + j] = uint8_t(code < 127 ? code : 127);
    grid[j] = {scale * float(int8_t(out[192 + j])), 0};
  }
  return true;
}

/// Writes the scales of the type into out and tells each sub-block's grid (16 or 8), as ggml requantizes with the decoded scales.
/// False for the q6_k block that is all zero, already written.
ATTAR_HOST_DEVICE inline bool write_scales(GgmlType type, const SearchedBlock& found, bool importance, uint8_t* out, SubGrid* grid) {
  if (type == GgmlType::q6_k) return write_scales_q6(found, out, grid);
  if (type == GgmlType::q3_k)
    write_scales_q3(found, importance, out, grid);
  else
    write_scales_affine(type, found, importance, out, grid);
  return true;
}

/// Writes the codes (256) beside them.
ATTAR_HOST_DEVICE inline void write_codes(GgmlType type, const uint8_t* codes, uint8_t* out) {
  switch (type) {
    case GgmlType::q2_k: pack_two_bits(codes, out + 16); break;
    case GgmlType::q3_k: pack_q3_k(codes, out, out + 32); break;
    case GgmlType::q4_k: pack_q45_k(codes, nullptr, out + 16); break;
    case GgmlType::q5_k: pack_q45_k(codes, out + 16, out + 48); break;
    default: pack_q6_k(codes, out, out + 128); break;
  }
}

}  // namespace attar
