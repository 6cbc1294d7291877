#include "kernels/scale_search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/block_grid.h"
#include "blocks/blocks_decode.h"
#include "blocks/blocks_encode.h"
#include "blocks/ggml_blocks.h"

namespace attar {
namespace {

constexpr int kMostOfBlock = 256;

/// One block on its way: the best bytes so far and their error.
struct BlockSearch {
  GgmlType type;
  GridShape shape;
  int bytes;
  const float* x;
  float weight[kMostOfBlock];
  double least;
  uint8_t best[256];

  double error_of(const float* values) const {
    double sum = 0;
    for (int i = 0; i < shape.block; ++i) {
      const double d = double(values[i]) - x[i];
      sum += weight[i] * d * d;
    }
    return sum;
  }
  void offer(const uint8_t* block, double error) {
    if (!(error < least)) return;
    least = error;
    std::memcpy(best, block, size_t(bytes));
  }
};

/// Codes and values of the whole block under one step and low.
void round_block(const BlockSearch& s, float step, float low, uint8_t* codes, float* values) {
  float steps[kMostOfBlock], lows[kMostOfBlock];
  std::fill_n(steps, s.shape.block, step);
  std::fill_n(lows, s.shape.block, low);
  round_to_grid(s.type, s.x, steps, lows, s.shape.block, codes, values);
}

int place_of_scale(GgmlType type) { return type == GgmlType::tq1_0 ? 52 : type == GgmlType::tq2_0 ? 64 : 0; }

/// Offers the block of scale `step` (and minimum -low), rounded to fp16.
bool offer_scale(BlockSearch& s, float step, float low, bool affine, uint8_t* codes) {
  uint8_t block[256] = {};
  const int at = place_of_scale(s.type);
  store_half(block + at, step);
  if (affine) store_half(block + at + 2, -low);
  const float step_read = load_half(block + at), low_read = affine ? -load_half(block + at + 2) : 0.0f;
  if (!std::isfinite(step_read) || !std::isfinite(low_read)) return false;
  float values[kMostOfBlock];
  round_block(s, step_read, low_read, codes, values);
  const double error = s.error_of(values);
  if (error < s.least) {
    write_grid_codes(s.type, codes, block);
    s.offer(block, error);
  }
  return true;
}

void search_one_scale(BlockSearch& s) {
  const float peak = signed_peak(s.x, s.shape.block);
  if (peak == 0) return;
  const bool trits = s.shape.codes == 3;
  float numbers[256], reach = 0;
  for (int c = 0; c < s.shape.codes; ++c) {
    numbers[c] = grid_number(s.type, c);
    reach = std::max(reach, std::fabs(numbers[c]));
  }
  const bool even = s.shape.lowest == -s.shape.highest && s.shape.highest > 0;  // both signs are then the same grid
  const int tries = trits ? 40 : 29;
  for (int sign = 0; sign < (even ? 1 : 2); ++sign)
    for (int k = 0; k < tries; ++k) {
      // Of a grid that reaches 8: the peak lies on 7.1 .. 9.9; trits go down to a tenth of it.
      const float share = trits ? 1.0f - 0.0225f * float(k) : 8.0f / (8.0f + 0.1f * float(k - 9));
      float step = (sign ? 1.0f : -1.0f) * peak / reach * share;
      for (int round = 0; round < 2; ++round) {
        uint8_t codes[kMostOfBlock];
        if (!offer_scale(s, step, 0, false, codes)) break;
        double products = 0, squares = 0;
        for (int i = 0; i < s.shape.block; ++i) {
          const double number = numbers[codes[i]], w = s.weight[i];
          products += w * s.x[i] * number;
          squares += w * number * number;
        }
        if (squares <= 0) break;
        step = float(products / squares);
      }
      // The fit of the last codes.
      uint8_t codes[kMostOfBlock];
      offer_scale(s, step, 0, false, codes);
    }
}

void search_scale_and_minimum(BlockSearch& s) {
  const auto [low_at, high_at] = std::minmax_element(s.x, s.x + s.shape.block);
  const float low = *low_at, high = *high_at, top = float(s.shape.highest);
  if (!(high > low)) return;
  for (int k = 0; k < 29; ++k) {
    // Wider and narrower grids about the same middle.
    const float step_first = (high - low) / (top + 0.1f * float(k - 9)), middle = 0.5f * (low + high);
    float step = step_first, origin = middle - 0.5f * top * step_first;
    for (int round = 0; round < 3; ++round) {
      uint8_t codes[kMostOfBlock];
      if (!offer_scale(s, step, -origin, true, codes)) break;
      double w = 0, l = 0, ll = 0, x = 0, xl = 0;
      for (int i = 0; i < s.shape.block; ++i) {
        const double weight = s.weight[i], code = codes[i];
        w += weight, l += weight * code, ll += weight * code * code, x += weight * s.x[i], xl += weight * code * s.x[i];
      }
      const double determinant = w * ll - l * l;
      if (!(determinant > 0)) break;
      step = float((w * xl - x * l) / determinant);
      origin = float((ll * x - l * xl) / determinant);
    }
  }
}

void search_exponent(BlockSearch& s) {
  const int first = s.best[0];
  for (int exponent = std::max(0, first - 1); exponent <= std::min(254, first + 1); ++exponent) {
    uint8_t block[256] = {uint8_t(exponent)}, codes[kMostOfBlock];
    float values[kMostOfBlock];
    round_block(s, mxfp4_scale(uint8_t(exponent)), 0, codes, values);
    write_grid_codes(s.type, codes, block);
    s.offer(block, s.error_of(values));
  }
}

/// ggml's other way of weighing, which its own error measure may like less than ours does.
void search_k(BlockSearch& s, const float* importance) {
  float flat[kMostOfBlock], values[kMostOfBlock];
  std::fill_n(flat, kMostOfBlock, 1.0f);
  for (const float* other : {static_cast<const float*>(nullptr), static_cast<const float*>(flat)}) {
    if (!importance && !other) continue;  // that is what stands there already
    uint8_t block[256] = {};
    encode_run_plain({s.type, s.x, other, 0, block, 1});
    decode_run_plain(s.type, block, values, 1);
    s.offer(block, s.error_of(values));
  }
}

}  // namespace

void search_rows(GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance) {
  quantize_rows(type, src, dst, rows, columns, importance);
  const GgmlTypeInfo& info = ggml_type_info(type);
  if (!info.quantized) return;
  const GridShape shape = grid_shape(type);
  const int64_t per_row = columns / info.block, blocks = rows * per_row;
#pragma omp parallel for schedule(dynamic, 64)
  for (int64_t b = 0; b < blocks; ++b) {
    BlockSearch s;
    s.type = type, s.shape = shape, s.bytes = int(info.bytes), s.x = src + b * info.block;
    const float* of_columns = importance ? importance + b % per_row * info.block : nullptr;
    double all = 0;
    for (int i = 0; i < shape.block; ++i) all += s.weight[i] = of_columns ? of_columns[i] : 1.0f;
    if (!(all > 0)) std::fill_n(s.weight, shape.block, 1.0f);  // columns that never saw an input: all alike
    uint8_t* out = dst + b * info.bytes;
    std::memcpy(s.best, out, size_t(info.bytes));
    float values[kMostOfBlock];
    decode_run_plain(type, out, values, 1);
    s.least = s.error_of(values);
    if (type == GgmlType::mxfp4) search_exponent(s);
    else if (type == GgmlType::q4_1 || type == GgmlType::q5_1) search_scale_and_minimum(s);
    else if (shape.block == 32 || shape.codes == 3) search_one_scale(s);
    else search_k(s, of_columns);
    std::memcpy(out, s.best, size_t(info.bytes));
  }
}

}  // namespace attar
