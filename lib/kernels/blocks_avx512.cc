#include "kernels/blocks_encode.h"

namespace attar {

bool encode_run_avx512(const BlockRun&) { return false; }

}  // namespace attar
