#pragma once
#include <cmath>
#include <cstdint>

#include "blocks/ggml_half.h"
#include "blocks/host_device.h"

// Blocks of 32 with one scale, encoded without an importance matrix: one block per call, x (32), out as the layout says.
namespace attar {

/// What x86 makes of a conversion to a byte: truncated towards zero through 32 bits, 0 where these do not hold the value.
ATTAR_HOST_DEVICE inline uint8_t byte_of(float value) {
  return value > -2147483648.0f && value < 2147483648.0f ? uint8_t(int32_t(value)) : uint8_t(0);
}

ATTAR_HOST_DEVICE inline float inverse_or_zero(float value) { return value != 0 ? 1.0f / value : 0.0f; }

/// The first value of largest magnitude, with its sign.
ATTAR_HOST_DEVICE inline float signed_peak(const float* x, int n) {
  float size = 0, peak = 0;
  for (int i = 0; i < n; ++i) {
    if (fabsf(x[i]) > size) {
      size = fabsf(x[i]);
      peak = x[i];
    }
  }
  return peak;
}

/// Codes (32) into low and high nibbles; the bits above them, if `high` is given, into its 32 bits.
ATTAR_HOST_DEVICE inline void pack_nibbles(const uint8_t* codes, uint8_t* nibbles, uint8_t* high = nullptr) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) {
    nibbles[i] = uint8_t((codes[i] & 15) | (codes[i + 16] & 15) << 4);
    bits |= uint32_t(codes[i] >> 4 & 1) << i | uint32_t(codes[i + 16] >> 4 & 1) << (i + 16);
  }
  if (high) store_u32(high, bits);
}

ATTAR_HOST_DEVICE inline void encode_q8_0(const float* x, uint8_t* out) {
  const float scale = fabsf(signed_peak(x, 32)) / 127, inverse = inverse_or_zero(scale);
  store_half(out, scale);
  for (int i = 0; i < 32; ++i) out[2 + i] = byte_of(roundf(x[i] * inverse));
}

/// q4_0 and q5_0: the peak becomes the lowest code, so that the grid reaches it exactly.
ATTAR_HOST_DEVICE inline void encode_symmetric(const float* x, int levels, uint8_t* out) {
  const float scale = signed_peak(x, 32) / float(-levels), inverse = inverse_or_zero(scale);
  store_half(out, scale);
  uint8_t codes[32];
  for (int i = 0; i < 32; ++i) {
    const int8_t code = int8_t(byte_of(x[i] * inverse + (float(levels) + 0.5f)));
    codes[i] = uint8_t(code < 2 * levels ? code : 2 * levels - 1);
  }
  pack_nibbles(codes, levels == 8 ? out + 2 : out + 6, levels == 8 ? nullptr : out + 2);
}

/// q4_1 and q5_1: codes 0..top over [minimum, maximum].
ATTAR_HOST_DEVICE inline void encode_affine(const float* x, int top, uint8_t* out) {
  float low = 3.402823466e38f, high = -3.402823466e38f;
  for (int i = 0; i < 32; ++i) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
  }
  const float scale = (high - low) / float(top), inverse = inverse_or_zero(scale);
  store_half(out, scale);
  store_half(out + 2, low);
  uint8_t codes[32];
  for (int i = 0; i < 32; ++i) {
    codes[i] = byte_of((x[i] - low) * inverse + 0.5f);
    if (top == 15 && int8_t(codes[i]) > 15) codes[i] = 15;
  }
  pack_nibbles(codes, top == 15 ? out + 4 : out + 8, top == 15 ? nullptr : out + 4);
}

/// Twice the values of E2M1 and half the value of an E8M0 exponent: their products are what the format means.
ATTAR_HOST_DEVICE inline float mxfp4_value(int code) {
  constexpr int8_t kValues[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return float(kValues[code]);
}
ATTAR_HOST_DEVICE inline float mxfp4_scale(uint8_t exponent) {
  return fp32_of_bits(exponent < 2 ? 0x00200000u << exponent : uint32_t(exponent - 1) << 23);
}

/// The exponent that ggml writes: floor of the logarithm rounded to fp32, which the last numbers below a power of two share with it.
ATTAR_HOST_DEVICE inline uint8_t mxfp4_exponent(float size) {
  return size > 0 ? byte_of(floorf(float(log2(double(size)))) - 2 + 127) : uint8_t(0);
}

ATTAR_HOST_DEVICE inline void encode_mxfp4(const float* x, uint8_t* out) {
  out[0] = mxfp4_exponent(fabsf(signed_peak(x, 32)));
  const float scale = mxfp4_scale(out[0]);
  uint8_t codes[32];
  for (int i = 0; i < 32; ++i) {
    int best = 0;
    float least = fabsf(mxfp4_value(0) * scale - x[i]);
    for (int code = 1; code < 16; ++code) {
      const float error = fabsf(mxfp4_value(code) * scale - x[i]);
      if (error < least) {
        least = error;
        best = code;
      }
    }
    codes[i] = uint8_t(best);
  }
  pack_nibbles(codes, out + 1);
}

}  // namespace attar
