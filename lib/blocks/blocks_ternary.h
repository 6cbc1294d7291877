#pragma once
#include <cmath>
#include <cstdint>

#include "blocks/blocks_32.h"

// tq1_0 and tq2_0: -1, 0 or 1 times the largest magnitude of 256 values. x (256), out as the layout says.
namespace attar {

/// 0, 1, 2 for -1, 0, 1: rounded half away from zero.
ATTAR_HOST_DEVICE inline int trit_code(float value) { return int8_t(byte_of(roundf(value))) + 1; }

ATTAR_HOST_DEVICE inline void encode_tq2_0(const float* x, uint8_t* out) {
  const float scale = fabsf(signed_peak(x, 256)), inverse = inverse_or_zero(scale);
  for (int at = 0; at < 64; ++at) {
    int byte = 0;
    for (int n = 0; n < 4; ++n) byte += (trit_code(x[128 * (at / 32) + 32 * n + at % 32] * inverse) & 3) << (2 * n);
    out[at] = uint8_t(byte);
  }
  store_half(out + 64, scale);
}

/// Five trits as digits of a number below 243, stored as the fraction's upper byte, rounded up. trit(i): code 0..2 of value i.
template <class Trit>
ATTAR_HOST_DEVICE inline void pack_tq1_0(const Trit& trit, uint8_t* out) {
  for (int at = 0; at < 52; ++at) {
    const int width = at < 32 ? 32 : at < 48 ? 16 : 4, first = at < 32 ? at : at < 48 ? 160 + at - 32 : 240 + at - 48;
    uint8_t digits = 0;
    for (int n = 0; n < 5; ++n) digits = uint8_t(digits * 3 + (width == 4 && n == 4 ? 0 : trit(first + n * width)));
    out[at] = uint8_t((digits * 256 + 242) / 243);
  }
}

ATTAR_HOST_DEVICE inline void encode_tq1_0(const float* x, uint8_t* out) {
  const float scale = fabsf(signed_peak(x, 256)), inverse = inverse_or_zero(scale);
  pack_tq1_0([=](int i) { return trit_code(x[i] * inverse); }, out);
  store_half(out + 52, scale);
}

}  // namespace attar
