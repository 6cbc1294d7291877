#include "blocks/ggml_blocks.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.h"
#include "blocks/blocks_encode.h"
#include "blocks/ggml_half.h"

namespace attar {
namespace {

constexpr int64_t kPiece = kRunWeights;      // a piece of work: 16 KiB, a whole number of every type's blocks
constexpr float kNoOverflowBelow = 16384;    // no type's scale reaches fp16's end when all magnitudes are below
constexpr float kOverflowAbove = 1e9f;       // every fp16 scale overflows, and squares come near fp32's own end

/// Where the fp16 scales of a block lie.
struct ScalePlaces {
  int first, count;
};

ScalePlaces scale_places(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0: case GgmlType::q5_0: case GgmlType::q8_0: case GgmlType::iq4_nl: return {0, 1};
    case GgmlType::q4_1: case GgmlType::q5_1: case GgmlType::q4_k: case GgmlType::q5_k: return {0, 2};
    case GgmlType::q2_k: return {80, 2};
    case GgmlType::q3_k: return {108, 1};
    case GgmlType::q6_k: return {208, 1};
    case GgmlType::tq1_0: return {52, 1};
    case GgmlType::tq2_0: return {64, 1};
    default: return {0, 0};
  }
}

bool has_row_mean(GgmlType type) {
  return type == GgmlType::q4_0 || type == GgmlType::q4_1 || type == GgmlType::q5_0 || type == GgmlType::q5_1;
}

/// Added one after the other, as ggml adds them.
float mean_square(const float* x, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum / float(n);
}

/// Index of the first block with a scale of infinity or NaN, or -1.
int64_t overflowed_block(GgmlType type, const uint8_t* blocks, int64_t count, int64_t block_bytes) {
  const ScalePlaces places = scale_places(type);
  for (int64_t b = 0; b < count; ++b)
    for (int s = 0; s < places.count; ++s)
      if ((load_u16(blocks + b * block_bytes + places.first + 2 * s) & 0x7c00u) == 0x7c00u) return b;
  return -1;
}

/// Index in x of what cannot be written, or -1; `largest` are x's largest_bits.
int64_t fault_before(GgmlType type, const float* x, int64_t n, uint32_t largest) {
  uint32_t limit = 0x7f800000u;
  if (type == GgmlType::f16) limit = 0x477ff000u;        // 65520 rounds up to infinity
  if (type == GgmlType::bf16) limit = 0x7f7f8000u;
  if (scale_places(type).count > 0) limit = fp32_bits(kOverflowAbove);
  if (largest < limit) return -1;
  for (int64_t i = 0; i < n; ++i)
    if ((fp32_bits(x[i]) & 0x7fffffffu) >= limit) return i;
  return -1;
}

[[noreturn]] void fail_at(GgmlType type, float value, int64_t row, int64_t column, const std::string& range) {
  if (!std::isfinite(value)) fail(str("weight at row ", row, ", column ", column), "a finite number", str(value));
  fail(str(ggml_type_info(type).name, " scale at row ", row, ", column ", column), "a magnitude that fp16 holds", str(value, range),
       "keep this tensor in f32 or bf16");
}

void check_importance(const float* importance, int64_t columns) {
  for (int64_t i = 0; importance && i < columns; ++i)
    if (!(importance[i] >= 0 && importance[i] <= std::numeric_limits<float>::max()))
      fail(str("importance of column ", i), "a finite number not below zero", str(importance[i]));
}

template <class Decoder>
void decode_rows(GgmlType type, const uint8_t* src, float* dst, int64_t rows, int64_t columns, Decoder decoder) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  check(quantizable(type), "type of weights", "f32, f16, bf16 or a type of blocks", info.name);
  check(rows >= 0, "rows to dequantize", "a count", std::to_string(rows));
  ggml_row_bytes(type, columns);
  // Rows hold whole blocks and no padding, so that the rows are one run.
  const int64_t total = rows * columns, pieces = (total + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t first = piece * kPiece, n = std::min(kPiece, total - first);
    decoder(type, src + first / info.block * info.bytes, dst + first, n / info.block);
  }
}

}  // namespace

void encode_run_fastest(const BlockRun& run) {
  if (!encode_run_avx512(run) && !encode_run_avx2(run)) encode_run_plain(run);
}

bool quantizable(GgmlType type) {
  return type == GgmlType::f32 || type == GgmlType::f16 || type == GgmlType::bf16 || ggml_type_info(type).quantized;
}

bool uses_importance(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0: case GgmlType::q4_1: case GgmlType::q5_0: case GgmlType::q5_1: case GgmlType::iq4_nl:
    case GgmlType::q2_k: case GgmlType::q3_k: case GgmlType::q4_k: case GgmlType::q5_k: case GgmlType::q6_k: return true;
    default: return false;
  }
}

void quantize_rows_by(RunEncoder encoder, GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  check(quantizable(type), "type of weights", "f32, f16, bf16 or a type of blocks", info.name);
  check(rows >= 0, "rows to quantize", "a count", std::to_string(rows));
  const int64_t row_bytes = ggml_row_bytes(type, columns);
  if (!uses_importance(type)) importance = nullptr;
  check_importance(importance, columns);
  if (rows == 0 || columns == 0) return;

  std::vector<float> means(importance && has_row_mean(type) ? size_t(rows) : 0);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < int64_t(means.size()); ++row) means[size_t(row)] = mean_square(src + row * columns, columns);

  const int64_t per_row = (columns + kPiece - 1) / kPiece, pieces = rows * per_row;
  std::atomic<int64_t> first_fault{std::numeric_limits<int64_t>::max()};
#pragma omp parallel for schedule(static)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t row = piece / per_row, column = piece % per_row * kPiece, n = std::min(kPiece, columns - column);
    const float* x = src + row * columns + column;
    uint8_t* out = dst + row * row_bytes + column / info.block * info.bytes;
    const uint32_t largest = largest_bits(x, n);
    int64_t fault = fault_before(type, x, n, largest);
    if (fault < 0) {
      encoder({type, x, importance ? importance + column : nullptr, means.empty() ? 0 : means[size_t(row)], out, n / info.block});
      if (largest >= fp32_bits(kNoOverflowBelow)) {
        const int64_t block = overflowed_block(type, out, n / info.block, info.bytes);
        if (block >= 0) fault = block * info.block;
      }
    }
    if (fault >= 0) {
      const int64_t at = row * columns + column + fault;
      int64_t known = first_fault.load();
      while (at < known && !first_fault.compare_exchange_weak(known, at)) {
      }
    }
  }
  const int64_t at = first_fault.load();
  if (at == std::numeric_limits<int64_t>::max()) return;
  const int64_t row = at / columns, column = at % columns, first = column / info.block * info.block;
  if (info.block == 1 || !std::isfinite(src[at])) fail_at(type, src[at], row, column, "");
  const float* block = src + row * columns + first;
  const float* peak = std::max_element(block, block + info.block, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  fail_at(type, *peak, row, first + (peak - block), "");
}

void quantize_rows(GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance) {
  quantize_rows_by(encode_run_fastest, type, src, dst, rows, columns, importance);
}

void quantize_rows_plain(GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance) {
  quantize_rows_by(encode_run_plain, type, src, dst, rows, columns, importance);
}

void dequantize_rows(GgmlType type, const uint8_t* src, float* dst, int64_t rows, int64_t columns) {
  decode_rows(type, src, dst, rows, columns, [](GgmlType t, const uint8_t* in, float* out, int64_t blocks) {
    if (!decode_run_avx2(t, in, out, blocks)) decode_run_plain(t, in, out, blocks);
  });
}

void dequantize_rows_plain(GgmlType type, const uint8_t* src, float* dst, int64_t rows, int64_t columns) {
  decode_rows(type, src, dst, rows, columns, decode_run_plain);
}

}  // namespace attar
