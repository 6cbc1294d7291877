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

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // inside GCC 12's own intrinsics
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,f16c")
namespace attar::avx512 {

#define ATTAR_LANES 16
#include "blocks/blocks_lanes.inc"
#include "blocks/blocks_lanes_runs.inc"
#include "blocks/blocks_wide.inc"
#include "blocks/blocks_iq4_lanes.inc"
#undef ATTAR_LANES

}  // namespace attar::avx512
#pragma GCC pop_options
#pragma GCC diagnostic pop

namespace attar {

bool encode_run_avx512(const BlockRun& run) {
  static const bool able = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("f16c");
  if (!able) return false;
  if (run.type == GgmlType::iq4_nl) {
    avx512::encode_iq4_run(run);
    return true;
  }
  return avx512::encode_wide_run(run) || avx512::encode_searched_run(run);
}

}  // namespace attar

#else

namespace attar {

bool encode_run_avx512(const BlockRun&) { return false; }

}  // namespace attar

#endif
