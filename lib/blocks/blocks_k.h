#pragma once
#include <cstdint>

#include "formats/ggml_types.h"
#include "blocks/blocks_decode.h"
#include "blocks/blocks_search.h"
#include "blocks/ggml_half.h"

// How a superblock of 256 is written once its sub-blocks have scales, minima and codes.
namespace attar {

/// What the search leaves of a superblock: 8 or 16 scales and minima (>= 0), a weight for each, and the codes.
struct SearchedBlock {
  float scales[16], minima[16], weights[16];
  uint8_t codes[256];
};

/// Codes (256) of two bits, as two_bits reads them.
ATTAR_HOST_DEVICE inline void pack_two_bits(const uint8_t* codes, uint8_t* out) {
  for (int half = 0; half < 2; ++half)
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes + 128 * half + l;
      out[32 * half + l] = uint8_t(c[0] | c[32] << 2 | c[64] << 4 | c[96] << 6);
    }
}

/// Codes (256) of four bits and, if `high` is given, a fifth.
ATTAR_HOST_DEVICE inline void pack_q45_k(const uint8_t* codes, uint8_t* high, uint8_t* nibbles) {
  for (int i = 0; i < 128; ++i) {
    const uint8_t* c = codes + i / 32 * 64 + i % 32;
    nibbles[i] = uint8_t((c[0] & 15) | (c[32] & 15) << 4);
  }
  for (int l = 0; high && l < 32; ++l) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= (codes[32 * j + l] >> 4 & 1) << j;
    high[l] = uint8_t(bits);
  }
}

ATTAR_HOST_DEVICE inline void pack_q6_k(const uint8_t* codes, uint8_t* low, uint8_t* high) {
  for (int half = 0; half < 2; ++half)
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes + 128 * half + l;
      low[64 * half + l] = uint8_t((c[0] & 15) | (c[64] & 15) << 4);
      low[64 * half + 32 + l] = uint8_t((c[32] & 15) | (c[96] & 15) << 4);
      high[32 * half + l] = uint8_t(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
    }
}

/// Codes (256) 0..7: two bits below, the third in `high`.
ATTAR_HOST_DEVICE inline void pack_q3_k(const uint8_t* codes, uint8_t* high, uint8_t* low) {
  uint8_t two[256];
  for (int i = 0; i < 256; ++i) two[i] = codes[i] & 3;
  pack_two_bits(two, low);
  for (int l = 0; l < 32; ++l) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= (codes[32 * j + l] >> 2 & 1) << j;
    high[l] = uint8_t(bits);
  }
}

/// 6-bit scales and minima of 8 sub-blocks into 12 bytes.
ATTAR_HOST_DEVICE inline void pack_scales_of_8(const uint8_t* scales, const uint8_t* minima, uint8_t* out) {
  for (int j = 0; j < 4; ++j) {
    out[j] = uint8_t(scales[j] | scales[j + 4] >> 4 << 6);
    out[j + 4] = uint8_t(minima[j] | minima[j + 4] >> 4 << 6);
    out[j + 8] = uint8_t((scales[j + 4] & 15) | (minima[j + 4] & 15) << 4);
  }
}

/// 6-bit scales (0..63) of 16 sub-blocks into 12 bytes.
ATTAR_HOST_DEVICE inline void pack_scales_of_16(const uint8_t* scales, uint8_t* out) {
  for (int j = 0; j < 8; ++j) out[j] = uint8_t((scales[j] & 15) | (scales[j + 8] & 15) << 4);
  for (int j = 0; j < 4; ++j) {
    out[j + 8] = uint8_t(scales[j] >> 4 | scales[j + 4] >> 4 << 2 | scales[j + 8] >> 4 << 4 | scales[j + 12] >> 4 << 6);
  }
}

/// Scale (and minimum) of one sub-block as the file holds it; a step of 0 leaves the codes of the search as they are.
struct SubGrid {
  float step, low;
};

/// Values that share a scale, and the lowest and highest code as a number; lowest 0 where there is a minimum too.
struct CodeShape {
  int width, lowest, highest;
};
ATTAR_HOST_DEVICE inline CodeShape code_shape(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0: return {32, -8, 7};
    case GgmlType::q5_0: return {32, -16, 15};
    case GgmlType::q4_1: return {32, 0, 15};
    case GgmlType::q5_1: return {32, 0, 31};
    case GgmlType::q2_k: return {16, 0, 3};
    case GgmlType::q3_k: return {16, -4, 3};
    case GgmlType::q4_k: return {32, 0, 15};
    case GgmlType::q5_k: return {32, 0, 31};
    default: return {16, -32, 31};
  }
}

ATTAR_HOST_DEVICE inline AffineTrials affine_trials(GgmlType type, bool importance) {
  if (importance) return {-0.9f, 0.05f, 36, false};
  if (type == GgmlType::q2_k) return {-0.5f, 0.1f, 15, true};
  if (type == GgmlType::q4_k) return {-1.0f, 0.1f, 20, false};
  return {-0.5f, 0.1f, 15, false};
}

}  // namespace attar
