#include "kernels/blocks_encode.h"

namespace attar {

bool encode_run_avx2(const BlockRun&) { return false; }
bool decode_run_avx2(GgmlType, const uint8_t*, float*, int64_t) { return false; }

}  // namespace attar
