#pragma once
#include <cstdint>
#include <cstring>

#include "blocks/host_device.h"

namespace attar {

ATTAR_HOST_DEVICE inline uint32_t fp32_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

ATTAR_HOST_DEVICE inline float fp32_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/// IEEE half, rounded to nearest even; subnormals kept, too large becomes infinity, NaN quiet.
ATTAR_HOST_DEVICE inline uint16_t fp32_to_fp16(float value) {
  const uint32_t bits = fp32_bits(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return uint16_t(sign | 0x7e00u);
  if (size >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // from 65520 on
  if (size < 0x38800000u)                                    // below 2^-14: one half has its last bit at 2^-24, as have half's subnormals
    return uint16_t(sign | (fp32_bits(fp32_of_bits(size) + 0.5f) - 0x3f000000u));
  return uint16_t(sign | ((size + 0xfffu + (size >> 13 & 1u) - 0x38000000u) >> 13));
}

/// Exact.
ATTAR_HOST_DEVICE inline float fp16_to_fp32(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, mantissa = half & 0x3ffu;
  if (exponent == 0) return fp32_of_bits(sign | fp32_bits(float(mantissa) * 5.9604644775390625e-8f));  // 2^-24
  if (exponent == 31) return fp32_of_bits(sign | 0x7f800000u | mantissa << 13);
  return fp32_of_bits(sign | (exponent + 112u) << 23 | mantissa << 13);
}

/// The upper half of fp32, rounded to nearest even, NaN quiet.
ATTAR_HOST_DEVICE inline uint16_t fp32_to_bf16(float value) {
  const uint32_t bits = fp32_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40u);
  return uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/// Exact.
ATTAR_HOST_DEVICE inline float bf16_to_fp32(uint16_t half) { return fp32_of_bits(uint32_t(half) << 16); }

/// Little-endian halves at any address.
ATTAR_HOST_DEVICE inline uint16_t load_u16(const uint8_t* from) { return uint16_t(from[0] | from[1] << 8); }
ATTAR_HOST_DEVICE inline void store_u16(uint8_t* to, uint16_t value) {
  to[0] = uint8_t(value & 0xff);
  to[1] = uint8_t(value >> 8);
}
ATTAR_HOST_DEVICE inline uint32_t load_u32(const uint8_t* from) { return load_u16(from) | uint32_t(load_u16(from + 2)) << 16; }
ATTAR_HOST_DEVICE inline void store_u32(uint8_t* to, uint32_t value) {
  store_u16(to, uint16_t(value & 0xffff));
  store_u16(to + 2, uint16_t(value >> 16));
}
ATTAR_HOST_DEVICE inline float load_half(const uint8_t* from) { return fp16_to_fp32(load_u16(from)); }
ATTAR_HOST_DEVICE inline void store_half(uint8_t* to, float value) { store_u16(to, fp32_to_fp16(value)); }

}  // namespace attar
