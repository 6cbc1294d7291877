#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "formats/ggml_types.h"
#include "blocks/blocks_encode.h"
#include "blocks/blocks_fit.h"
#include "blocks/blocks_k.h"
#include "blocks/blocks_k_scales.h"
#include "blocks/blocks_search.h"
#include "blocks/blocks_ternary.h"

#ifdef __x86_64__
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,f16c")
namespace attar::avx2 {

#define ATTAR_LANES 8
#include "blocks/blocks_lanes.inc"
#include "blocks/blocks_lanes_runs.inc"
#include "blocks/blocks_wide.inc"
#include "blocks/blocks_iq4_lanes.inc"
#include "blocks/blocks_unpack.inc"
#undef ATTAR_LANES

uint32_t largest_bits(const float* x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, fp32_bits(x[i]) & 0x7fffffffu);
  return largest;
}

}  // namespace attar::avx2
#pragma GCC pop_options

namespace attar {

uint32_t largest_bits(const float* x, int64_t n) {
  static const bool able = __builtin_cpu_supports("avx2");
  if (able) return avx2::largest_bits(x, n);
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, fp32_bits(x[i]) & 0x7fffffffu);
  return largest;
}

bool encode_run_avx2(const BlockRun& run) {
  static const bool able = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  if (!able) return false;
  if (run.type == GgmlType::iq4_nl) {
    avx2::encode_iq4_run(run);
    return true;
  }
  return avx2::encode_wide_run(run) || avx2::encode_searched_run(run);
}

bool decode_run_avx2(GgmlType type, const uint8_t* in, float* out, int64_t blocks) {
  static const bool able = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return able && avx2::unpack_run(type, in, out, blocks);
}

}  // namespace attar

#else

namespace attar {

uint32_t largest_bits(const float* x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, fp32_bits(x[i]) & 0x7fffffffu);
  return largest;
}

bool encode_run_avx2(const BlockRun&) { return false; }
bool decode_run_avx2(GgmlType, const uint8_t*, float*, int64_t) { return false; }

}  // namespace attar

#endif
