// Fake quantization on a GPU beside kept and learned scales, of int8 rows and with importance, equals the CPU's to the bit: on the host the kernels'
// arithmetic stands in for them, on a GPU they run themselves.
#include "kernels/cuda_grids.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/check.h"
#include "base/rng.h"
#include "device/device.h"
#include "blocks/blocks_32_searched.h"
#include "blocks/blocks_k_encode.h"
#include "blocks/ggml_blocks.h"
#include "kernels/grid_math.h"
#include "quant/kept_scales.h"
#include "quant/row_int8.h"
#include "quant/training_grid.h"

namespace attar {
namespace {

GgmlType grid_of_number(int32_t number) { return static_cast<GgmlType>(number); }

/// The CUDA part's entries, each a loop over what a thread does.
CudaCalls host_grids() {
  CudaCalls calls{};
  calls.dequantize = [](int32_t type, const uint8_t* bytes, float* values, int64_t blocks, void*) -> const char* {
    dequantize_rows_plain(grid_of_number(type), bytes, values, 1, blocks * ggml_type_info(grid_of_number(type)).block);
    return nullptr;
  };
  calls.quantize_weighted = [](int32_t number, const float* values, const float* importance, float* means, uint8_t* out, int64_t rows,
                               int64_t columns, void*) -> const char* {
    const GgmlType type = grid_of_number(number);
    const int64_t width = ggml_type_info(type).block, bytes = ggml_type_info(type).bytes;
    for (int64_t row = 0; row < rows; ++row) {
      float sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += values[row * columns + c] * values[row * columns + c];
      if (means) means[row] = sum / float(columns);
      for (int64_t c = 0; c < columns; c += width, out += bytes) {
        const float *x = values + row * columns + c, *weights = importance ? importance + c : nullptr;
        if (width == 256) encode_k(type, x, weights, out);
        else encode_searched_32(type, x, weights, means ? means[row] : 0.0f, out);
      }
    }
    return nullptr;
  };
  calls.round_kept = [](int32_t number, const float* values, const uint8_t* blocks, float* out, int64_t count, void*) -> const char* {
    const GgmlType type = grid_of_number(number);
    const GridShape shape = grid_shape_or_none(type);
    for (int64_t i = 0; i < count; ++i)
      out[i] = rounded_value(type, shape, values[i],
                             part_scale(type, blocks + i / shape.block * ggml_type_info(type).bytes, int(i % shape.block) / shape.width));
    return nullptr;
  };
  calls.round_learned = [](int32_t number, const float* values, const float* scales, float* out, int64_t count, void*) -> const char* {
    const GgmlType type = grid_of_number(number);
    const GridShape shape = grid_shape_or_none(type);
    const int each = learned_scales(type);
    for (int64_t i = 0; i < count; ++i) out[i] = rounded_value(type, shape, values[i], stored_scale(scales + i / shape.block * each, each));
    return nullptr;
  };
  calls.scale_slopes = [](int32_t number, const float* values, const float* scales, const float* slopes, double shrink, float* by_value,
                          float* by_scale, int64_t blocks, void*) -> const char* {
    const GgmlType type = grid_of_number(number);
    const GridShape shape = grid_shape_or_none(type);
    const int each = learned_scales(type);
    for (int64_t b = 0; b < blocks; ++b) {
      ScaleSlopes sums;
      for (int64_t i = b * shape.block; i < (b + 1) * shape.block; ++i)
        by_value[i] = weight_slope(values[i], slopes[i], stored_scale(scales + b * each, each), float(shape.lowest), float(shape.highest), sums);
      by_scale[b * each] = float(sums.step * shrink);
      if (each > 1) by_scale[b * each + 1] = float(sums.minimum * shrink);
    }
    return nullptr;
  };
  calls.row_steps = [](const float* values, float* steps, int64_t rows, int64_t columns, void*) -> const char* {
    for (int64_t row = 0; row < rows; ++row) {
      float most = 0;
      for (int64_t i = row * columns; i < (row + 1) * columns; ++i) most = std::max(most, std::fabs(values[i]));
      steps[row] = row_int8_step(most);
    }
    return nullptr;
  };
  calls.round_rows = [](const float* values, const float* steps, float* out, int64_t rows, int64_t columns, void*) -> const char* {
    for (int64_t i = 0; i < rows * columns; ++i) out[i] = row_int8_number(values[i], steps[i / columns]) * steps[i / columns];
    return nullptr;
  };
  calls.row_slopes = [](const float* values, const float* steps, const float* slopes, double shrink, float* by_value, float* by_step, int64_t rows,
                        int64_t columns, void*) -> const char* {
    for (int64_t row = 0; row < rows; ++row) {
      double total = 0;
      for (int lane = 0; lane < kRowLanes; ++lane) {
        ScaleSlopes own;
        for (int64_t i = row * columns + lane; i < (row + 1) * columns; i += kRowLanes)
          by_value[i] = weight_slope(values[i], slopes[i], {steps[row], 0}, -kRowInt8Top, kRowInt8Top, own);
        total += own.step;
      }
      by_step[row] = float(total * shrink);
    }
    return nullptr;
  };
  return calls;
}

/// Normal values with spikes, a block of zeros and, in another row, only small ones.
at::Tensor grid_weight(uint64_t seed) {
  at::Tensor out = at::empty({6, 512});
  Rng rng(seed, 3);
  for (int64_t i = 0; i < out.numel(); ++i) out.data_ptr<float>()[i] = static_cast<float>(rng.normal() * (i % 89 == 0 ? 0.4 : 0.05));
  out[1].slice(0, 0, 256).zero_();
  out[4].mul_(1e-6);
  return out;
}

std::vector<GgmlType> rounded_types() {
  std::vector<GgmlType> out{GgmlType::i8};
  for (const GgmlTypeInfo& info : ggml_types())
    if (info.quantized) out.push_back(info.type);
  return out;
}

void kept_scales_equal_the_cpus(const CudaCalls& calls, at::Device device) {
  for (const GgmlType type : rounded_types()) {
    SCOPED_TRACE(ggml_type_info(type).name);
    // The blocks are of other weights nearby, so that some are clipped.
    const QuantizedTensor start = quantize_tensor(grid_weight(1) * 0.8 + grid_weight(2) * 0.3, type, nullptr, Rounding::search);
    const at::Tensor weight = grid_weight(1), expected = round_beside_scales(weight, start);
    EXPECT_FALSE(at::equal(expected, dequantize_tensor(start)));
    const at::Tensor scales = (type == GgmlType::i8 ? start.scales : start.blocks).to(device);
    EXPECT_TRUE(at::equal(round_kept_by(calls, type, weight.to(device), scales).cpu(), expected));
  }
}

void learned_scales_equal_the_cpus(const CudaCalls& calls, at::Device device) {
  for (const GgmlType type : rounded_types()) {
    if (!scales_can_learn(type)) continue;
    SCOPED_TRACE(ggml_type_info(type).name);
    const QuantizedTensor start = quantize_tensor(grid_weight(1), type, nullptr, Rounding::search);
    const at::Tensor weight = grid_weight(1), gradient = grid_weight(5), scales = read_scales(start) * 0.613;
    const QuantizedTensor grid = with_scales(start, scales);
    const ScaleGradients expected = lsq_gradients(weight, grid, gradient);
    EXPECT_TRUE(at::equal(round_learned_by(calls, type, weight.to(device), scales.to(device)).cpu(), round_beside_scales(weight, grid)));
    const auto [by_weight, by_scale] = scale_gradients_by(calls, type, weight.to(device), scales.to(device), gradient.to(device));
    EXPECT_TRUE(at::equal(by_weight.cpu(), expected.weight));
    EXPECT_TRUE(at::equal(by_scale.cpu(), expected.scales));
    EXPECT_FALSE(at::equal(expected.weight, gradient)) << "some weights are clipped";
    EXPECT_GT(expected.scales.abs().max().item<float>(), 0);
  }
}

void importance_and_rows_equal_the_cpus(const CudaCalls& calls, at::Device device) {
  const at::Tensor weight = grid_weight(1), shares = grid_weight(7)[0].square();
  const std::vector<float> importance(shares.const_data_ptr<float>(), shares.const_data_ptr<float>() + shares.numel());
  int64_t weighted = 0;
  for (const GgmlType type : rounded_types()) {
    SCOPED_TRACE(ggml_type_info(type).name);
    const bool uses = type != GgmlType::i8 && uses_importance(type);
    weighted += uses;
    if (uses) {
      const at::Tensor expected = dequantize_tensor(quantize_tensor(weight, type, &importance));
      EXPECT_TRUE(at::equal(fake_quantize_by(calls, type, weight.to(device), shares.to(device)).cpu(), expected));
      EXPECT_FALSE(at::equal(expected, dequantize_tensor(quantize_tensor(weight, type))));
    }
    if (type == GgmlType::iq4_nl || type == GgmlType::i8) {
      EXPECT_TRUE(at::equal(fake_quantize_by(calls, type, weight.to(device)).cpu(), dequantize_tensor(quantize_tensor(weight, type))));
    }
  }
  EXPECT_EQ(weighted, 10);
}

TEST(GridsOfAGpu, KeptScalesEqualTheCpus) { kept_scales_equal_the_cpus(host_grids(), at::kCPU); }
TEST(GridsOfAGpu, LearnedScalesEqualTheCpus) { learned_scales_equal_the_cpus(host_grids(), at::kCPU); }
TEST(GridsOfAGpu, ImportanceAndInt8RowsEqualTheCpus) { importance_and_rows_equal_the_cpus(host_grids(), at::kCPU); }

TEST(GridsOfAGpu, RefusalsAreSentences) {
  CudaCalls calls = host_grids();
  calls.round_kept = [](int32_t, const float*, const uint8_t*, float*, int64_t, void*) -> const char* { return "no kernel image is available"; };
  const QuantizedTensor start = quantize_tensor(grid_weight(1), GgmlType::q4_0);
  EXPECT_THROW(round_kept_by(calls, GgmlType::q4_0, grid_weight(1), start.blocks), Error);
  EXPECT_THROW(round_learned_by(calls, GgmlType::q4_0, at::ones({4, 48}), at::ones({4, 1, 1})), Error) << "rows of no whole blocks";
}

TEST(CudaGrids, KernelsEqualTheCpu) {
  std::string why;
  if (!cuda_usable(&why)) GTEST_SKIP() << "SKIPPED LOUDLY: no kernel of fake quantization was run: " << why;
  const at::Device gpu = parse_device("cuda");
  kept_scales_equal_the_cpus(cuda_calls(), gpu);
  learned_scales_equal_the_cpus(cuda_calls(), gpu);
  importance_and_rows_equal_the_cpus(cuda_calls(), gpu);
}

/// What training calls: every type, every kind of scales, weights and learned scales on the GPU; forward and gradients are the CPU's.
TEST(CudaGrids, TrainingGridsEqualTheCpus) {
  std::string why;
  if (!cuda_usable(&why)) GTEST_SKIP() << "SKIPPED LOUDLY: no training grid was used: " << why;
  const at::Device gpu = parse_device("cuda");
  const at::Tensor shares = grid_weight(7)[0].square();
  const ImportanceMap importance = {{"w", {shares.const_data_ptr<float>(), shares.const_data_ptr<float>() + shares.numel()}}};
  for (const GgmlType type : rounded_types())
    for (const Scales scales : {Scales::recomputed, Scales::kept, Scales::learned})
      for (const bool weighted : {false, true}) {
        if (weighted && (scales != Scales::recomputed || type == GgmlType::i8)) continue;
        SCOPED_TRACE(str(ggml_type_info(type).name, " ", static_cast<int>(scales), " ", weighted));
        std::vector<at::Tensor> forward, by_weight, by_scale;
        for (const at::Device device : {at::Device(at::kCPU), gpu}) {
          std::map<std::string, QuantizedTensor> start;
          if (scales != Scales::recomputed) start["w"] = quantize_tensor(grid_weight(2), type, nullptr, Rounding::search);
          TrainingGridOptions options;
          options.scales = scales, options.device = device;
          TrainingGrid grid({{"w", type}}, weighted ? importance : ImportanceMap{}, std::move(start), options);
          const at::Tensor weight = grid_weight(1).to(device).requires_grad_(true);
          const at::Tensor used = grid.hook()("w", weight);
          (used * grid_weight(5).to(device)).sum().backward();
          forward.push_back(used.detach().cpu()), by_weight.push_back(weight.grad().cpu());
          for (const auto& [name, learned] : grid.parameters()) by_scale.push_back(learned.grad().cpu());
          Checkpoint model;
          model.weights["w"] = grid_weight(1);
          grid.write(model);
          EXPECT_TRUE(at::equal(model.weights.at("w"), forward.back())) << "codes written are those of the forward";
        }
        EXPECT_TRUE(at::equal(forward[0], forward[1]));
        EXPECT_TRUE(at::equal(by_weight[0], by_weight[1]));
        if (!by_scale.empty()) {
          EXPECT_TRUE(at::equal(by_scale.at(0), by_scale.at(1)));
        }
      }
}

}  // namespace
}  // namespace attar
