#include "kernels/block_grid.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.h"
#include "blocks/ggml_blocks.h"
#include "kernels/scale_search.h"

namespace attar {
namespace {

std::vector<GgmlType> grid_types() {
  std::vector<GgmlType> types;
  for (const GgmlTypeInfo& info : ggml_types())
    if (info.quantized) types.push_back(info.type);
  return types;
}

/// Normal values with a spike here and there and one block of zeros.
std::vector<float> grid_values(int64_t count, uint64_t seed) {
  Rng rng(seed, 1);
  std::vector<float> x(static_cast<size_t>(count));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.normal() * (i % 97 == 0 ? 0.3 : 0.05));
  for (size_t i = 256; i < 512; ++i) x[i] = 0;
  return x;
}

double weighted_error(const std::vector<float>& x, const std::vector<float>& y, const std::vector<float>& w) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (w.empty() ? 1.0 : w[i % w.size()]) * (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
  return sum;
}

class EveryGrid : public testing::TestWithParam<GgmlType> {};

/// Scales and numbers give what the reader of the bytes gives, and codes put back are the same block.
TEST_P(EveryGrid, IsTheReadersOwn) {
  const GgmlType type = GetParam();
  const GridShape shape = grid_shape(type);
  const int64_t count = 2048, bytes = ggml_type_info(type).bytes;
  const std::vector<float> x = grid_values(count, 5);
  std::vector<uint8_t> blocks(size_t(ggml_row_bytes(type, count)));
  quantize_rows(type, x.data(), blocks.data(), 1, count);
  std::vector<float> read(x.size());
  dequantize_rows(type, blocks.data(), read.data(), 1, count);
  for (int64_t b = 0; b < count / shape.block; ++b) {
    GridScales scales;
    read_grid_scales(type, blocks.data() + b * bytes, scales);
    std::vector<float> steps(size_t(shape.block)), lows(steps), values(steps);
    for (int i = 0; i < shape.block; ++i) steps[size_t(i)] = scales.step[i / shape.width], lows[size_t(i)] = scales.low[i / shape.width];
    std::vector<uint8_t> codes(size_t(shape.block)), again(blocks.begin() + b * bytes, blocks.begin() + (b + 1) * bytes);
    const float* from = read.data() + b * shape.block;
    round_to_grid(type, from, steps.data(), lows.data(), shape.block, codes.data(), values.data());
    for (int i = 0; i < shape.block; ++i) ASSERT_EQ(values[size_t(i)], from[i]) << "block " << b << " value " << i;
    write_grid_codes(type, codes.data(), again.data());
    std::vector<float> twice(size_t(shape.block));
    dequantize_rows(type, again.data(), twice.data(), 1, shape.block);
    for (int i = 0; i < shape.block; ++i) ASSERT_EQ(twice[size_t(i)], from[i]) << "block " << b << " value " << i;
  }
}

/// No number of the grid lies nearer than the one that was taken.
TEST_P(EveryGrid, TakesTheNearestNumber) {
  const GgmlType type = GetParam();
  const GridShape shape = grid_shape(type);
  const std::vector<float> weights = {-3.0f, -1.4f, -0.52f, -0.07f, 0.0f, 0.03f, 0.26f, 0.9f, 1.7f, 4.0f};
  for (const float step : {0.1f, -0.03f, 0.7f}) {
    if (type == GgmlType::mxfp4 && step < 0) continue;
    const std::vector<float> steps(weights.size(), step), lows(weights.size(), shape.lowest == 0 && shape.highest > 0 ? 0.4f : 0.0f);
    std::vector<uint8_t> codes(weights.size());
    std::vector<float> values(weights.size());
    round_to_grid(type, weights.data(), steps.data(), lows.data(), int(weights.size()), codes.data(), values.data());
    for (size_t i = 0; i < weights.size(); ++i) {
      ASSERT_EQ(values[i], step * grid_number(type, codes[i]) - lows[i]);
      for (int code = 0; code < shape.codes; ++code)
        EXPECT_LE(std::fabs(values[i] - weights[i]), std::fabs(step * grid_number(type, code) - lows[i] - weights[i]) * (1 + 1e-5f) + 1e-7f);
    }
  }
}

TEST_P(EveryGrid, SearchNeverLosesToPlainRounding) {
  const GgmlType type = GetParam();
  const int64_t rows = 4, columns = 1024;
  const std::vector<float> x = grid_values(rows * columns, 9);
  std::vector<float> importance(size_t(columns), 0.0f);
  Rng rng(3, 2);
  for (float& v : importance) v = static_cast<float>(std::exp(rng.normal()));
  for (int i = 64; i < 96; ++i) importance[size_t(i)] = 0;  // columns without input
  for (const bool weighted : {false, true}) {
    const float* given = weighted ? importance.data() : nullptr;
    std::vector<uint8_t> plain(size_t(rows * ggml_row_bytes(type, columns))), searched(plain.size());
    quantize_rows(type, x.data(), plain.data(), rows, columns, given);
    search_rows(type, x.data(), searched.data(), rows, columns, given);
    std::vector<float> of_plain(x.size()), of_search(x.size());
    dequantize_rows(type, plain.data(), of_plain.data(), rows, columns);
    dequantize_rows(type, searched.data(), of_search.data(), rows, columns);
    const std::vector<float> w = weighted ? importance : std::vector<float>();
    EXPECT_LE(weighted_error(x, of_search, w), weighted_error(x, of_plain, w)) << "weighted " << weighted;
    if (weighted) continue;
    const double share = type == GgmlType::q4_0 ? 0.95 : type == GgmlType::tq2_0 ? 0.5 : 1.0;
    EXPECT_LE(weighted_error(x, of_search, w), share * weighted_error(x, of_plain, w));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, EveryGrid, testing::ValuesIn(grid_types()),
                         [](const auto& info) { return std::string(ggml_type_info(info.param).name); });

/// Every scale that fp16 holds between half and one and a half times the plain one: the search is within half a percent of the best of them.
TEST(ScaleSearch, IsCloseToTheBestScaleThereIs) {
  const int64_t blocks = 200;
  Rng rng(11, 1);
  std::vector<float> x(size_t(32 * blocks));
  for (float& v : x) v = static_cast<float>(rng.normal());
  std::vector<uint8_t> bytes(size_t(18 * blocks));
  search_rows(GgmlType::q4_0, x.data(), bytes.data(), blocks, 32);
  std::vector<float> read(x.size());
  dequantize_rows(GgmlType::q4_0, bytes.data(), read.data(), blocks, 32);
  double best_of_all = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const float* from = x.data() + 32 * b;
    float peak = 0;
    for (int i = 0; i < 32; ++i) peak = std::max(peak, std::fabs(from[i]));
    double best = 1e30;
    for (int k = 0; k < 1000; ++k)
      for (const float sign : {-1.0f, 1.0f}) {
        const float step = sign * peak / 8 * (0.5f + float(k) / 1000);
        double sum = 0;
        for (int i = 0; i < 32; ++i) {
          const float number = std::min(7.0f, std::max(-8.0f, std::nearbyint(from[i] / step)));
          sum += (double(step) * number - from[i]) * (double(step) * number - from[i]);
        }
        best = std::min(best, sum);
      }
    best_of_all += best;
  }
  EXPECT_LT(weighted_error(x, read, {}), 1.005 * best_of_all);
}

}  // namespace
}  // namespace attar
