#pragma once
#include <cstdint>

#include "formats/ggml_types.h"

namespace attar {

constexpr int64_t kRunWeights = 4096;  ///< most weights of a run, a whole number of every type's blocks

/// A run of blocks of one row, all of one type, of at most kRunWeights weights together.
struct BlockRun {
  GgmlType type;
  const float* x;             ///< (blocks * weights of a block)
  const float* importance;    ///< null, or as many as x
  float row_mean_square;      ///< of the whole row; read by the 32-element types when importance is given
  uint8_t* out;
  int64_t blocks;
};

/// What encodes the blocks of a run.
using RunEncoder = void (*)(const BlockRun&);
/// quantize_rows by a given encoder.
void quantize_rows_by(RunEncoder encoder, GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance);

/// By the widest instructions that this machine has; the same bytes.
void encode_run_fastest(const BlockRun& run);
/// The specification: every block by itself.
void encode_run_plain(const BlockRun& run);
void decode_run_plain(GgmlType type, const uint8_t* in, float* out, int64_t blocks);

/// Bits of the largest magnitude of x (n): above 0x7f7fffff where one is not finite.
uint32_t largest_bits(const float* x, int64_t n);

/// Vectorised twins: encode the run and return true, or return false where they have nothing better (wrong CPU, other types).
bool encode_run_avx512(const BlockRun& run);
bool encode_run_avx2(const BlockRun& run);
bool decode_run_avx2(GgmlType type, const uint8_t* in, float* out, int64_t blocks);

}  // namespace attar
