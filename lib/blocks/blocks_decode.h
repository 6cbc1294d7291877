#pragma once
#include <cstdint>

#include "blocks/blocks_32.h"
#include "blocks/ggml_half.h"
#include "blocks/host_device.h"

// One block to fp32, in ggml's order of operations (products of scales first). in: the block's bytes, out (32) or (256).
namespace attar {

ATTAR_HOST_DEVICE inline float iq4_value(int code) {
  constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return float(kValues[code]);
}

ATTAR_HOST_DEVICE inline int nibble_of(const uint8_t* nibbles, int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; }

ATTAR_HOST_DEVICE inline void decode_q8_0(const uint8_t* in, float* out) {
  const float scale = load_half(in);
  for (int i = 0; i < 32; ++i) out[i] = float(int8_t(in[2 + i])) * scale;
}

ATTAR_HOST_DEVICE inline void decode_symmetric(const uint8_t* in, int levels, float* out) {
  const float scale = load_half(in);
  const uint32_t high = levels == 16 ? load_u32(in + 2) : 0;
  const uint8_t* nibbles = levels == 16 ? in + 6 : in + 2;
  for (int i = 0; i < 32; ++i) out[i] = float(nibble_of(nibbles, i) + 16 * int(high >> i & 1) - levels) * scale;
}

ATTAR_HOST_DEVICE inline void decode_affine(const uint8_t* in, int top, float* out) {
  const float scale = load_half(in), low = load_half(in + 2);
  const uint32_t high = top == 31 ? load_u32(in + 4) : 0;
  const uint8_t* nibbles = top == 31 ? in + 8 : in + 4;
  for (int i = 0; i < 32; ++i) out[i] = float(nibble_of(nibbles, i) + 16 * int(high >> i & 1)) * scale + low;
}

ATTAR_HOST_DEVICE inline void decode_iq4_nl(const uint8_t* in, float* out) {
  const float scale = load_half(in);
  for (int i = 0; i < 32; ++i) out[i] = scale * iq4_value(nibble_of(in + 2, i));
}

ATTAR_HOST_DEVICE inline void decode_mxfp4(const uint8_t* in, float* out) {
  const float scale = mxfp4_scale(in[0]);
  for (int i = 0; i < 32; ++i) out[i] = mxfp4_value(nibble_of(in + 1, i)) * scale;
}

/// Two bits of value i in the 64 bytes that hold four quarters of each half side by side (q2_k, q3_k, tq2_0).
ATTAR_HOST_DEVICE inline int two_bits(const uint8_t* packed, int i) { return packed[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3; }

/// The 6-bit scale and minimum of sub-block j (0..7) of q4_k and q5_k.
ATTAR_HOST_DEVICE inline int scale_of_8(const uint8_t* packed, int j) {
  return j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4;
}
ATTAR_HOST_DEVICE inline int minimum_of_8(const uint8_t* packed, int j) {
  return j < 4 ? packed[j + 4] & 63 : packed[j + 4] >> 4 | packed[j] >> 6 << 4;
}
/// The 6-bit scale of sub-block j (0..15) of q3_k, -32..31.
ATTAR_HOST_DEVICE inline int scale_of_16(const uint8_t* packed, int j) {
  return ((j < 8 ? packed[j] & 15 : packed[j - 8] >> 4) | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) - 32;
}

ATTAR_HOST_DEVICE inline void decode_q2_k(const uint8_t* in, float* out) {
  const float scale = load_half(in + 80), minimum = load_half(in + 82);
  for (int j = 0; j < 16; ++j) {
    const float step = scale * float(in[j] & 15), low = minimum * float(in[j] >> 4);
    for (int i = 16 * j; i < 16 * j + 16; ++i) out[i] = step * float(two_bits(in + 16, i)) - low;
  }
}

ATTAR_HOST_DEVICE inline void decode_q3_k(const uint8_t* in, float* out) {
  const float scale = load_half(in + 108);
  for (int j = 0; j < 16; ++j) {
    const float step = scale * float(scale_of_16(in + 96, j));
    for (int i = 16 * j; i < 16 * j + 16; ++i) out[i] = step * float(two_bits(in + 32, i) - (in[i % 32] >> (i / 32) & 1 ? 0 : 4));
  }
}

/// q4_k, and q5_k whose fifth bits are `high` (32 bytes).
ATTAR_HOST_DEVICE inline void decode_q45_k(const uint8_t* in, const uint8_t* high, const uint8_t* nibbles, float* out) {
  const float scale = load_half(in), minimum = load_half(in + 2);
  for (int j = 0; j < 8; ++j) {
    const float step = scale * float(scale_of_8(in + 4, j)), low = minimum * float(minimum_of_8(in + 4, j));
    for (int i = 0; i < 32; ++i) {
      const int code = (nibbles[32 * (j / 2) + i] >> (4 * (j % 2)) & 15) + (high ? (high[i] >> j & 1) * 16 : 0);
      out[32 * j + i] = step * float(code) - low;
    }
  }
}

ATTAR_HOST_DEVICE inline void decode_q6_k(const uint8_t* in, float* out) {
  const float scale = load_half(in + 208);
  for (int j = 0; j < 16; ++j) {
    const float step = scale * float(int8_t(in[192 + j]));
    for (int i = 16 * j; i < 16 * j + 16; ++i) {
      const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
      const int low = in[64 * half + 32 * (quarter & 1) + l] >> (4 * (quarter >> 1)) & 15;
      out[i] = step * float((low | (in[128 + 32 * half + l] >> (2 * quarter) & 3) << 4) - 32);
    }
  }
}

/// Trit n (0..4) of a byte of tq1_0, -1..1: the byte is a fraction of 243 thirds, its digits read from the top.
ATTAR_HOST_DEVICE inline int trit_of(uint8_t byte, int n) {
  constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  return (uint8_t(byte * kPowers[n]) * 3 >> 8) - 1;
}

ATTAR_HOST_DEVICE inline void decode_tq1_0(const uint8_t* in, float* out) {
  const float scale = load_half(in + 52);
  for (int i = 0; i < 256; ++i) {
    const int at = i < 160 ? i % 32 : i < 240 ? 32 + (i - 160) % 16 : 48 + (i - 240) % 4;
    out[i] = float(trit_of(in[at], i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4)) * scale;
  }
}

ATTAR_HOST_DEVICE inline void decode_tq2_0(const uint8_t* in, float* out) {
  const float scale = load_half(in + 64);
  for (int i = 0; i < 256; ++i) out[i] = float(two_bits(in, i) - 1) * scale;
}

}  // namespace attar
