#include "quant/kept_scales.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cuda_grids.h"
#include "kernels/grid_math.h"
#include "quant/each_block.h"
#include "quant/row_int8.h"

namespace attar {
namespace {

/// Where a block keeps its half-precision scale and, after it, its minimum.
struct ScalePlace {
  int64_t at;
  int count;
};
ScalePlace scale_place(GgmlType type) { return {type == GgmlType::tq1_0 ? 52 : type == GgmlType::tq2_0 ? 64 : 0, learned_scales(type)}; }

/// Steps and lows of a block, one a weight.
struct Spread {
  float steps[256], lows[256];
  Spread(GgmlType type, const GridShape& shape, const uint8_t* block) {
    GridScales scales;
    read_grid_scales(type, block, scales);
    for (int part = 0; part < shape.block / shape.width; ++part) {
      std::fill_n(steps + part * shape.width, shape.width, scales.step[part]);
      std::fill_n(lows + part * shape.width, shape.width, scales.low[part]);
    }
  }
};

at::Tensor on_cpu(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kFloat).contiguous(); }
at::Tensor on_gpu(const at::Tensor& tensor) { return tensor.detach().to(at::kFloat).contiguous(); }

}  // namespace

QuantizedTensor moved(const QuantizedTensor& tensor, at::Device device) {
  return {tensor.type, tensor.shape, tensor.blocks.to(device), tensor.scales.defined() ? tensor.scales.to(device) : tensor.scales};
}

bool has_scales(GgmlType type) { return ggml_type_info(type).quantized || type == GgmlType::i8; }

bool scales_can_learn(GgmlType type) { return scale_place(type).count > 0 || type == GgmlType::i8; }

at::Tensor round_beside_scales(const at::Tensor& weight, const QuantizedTensor& given_scales, QuantizedTensor* codes) {
  assert(weight.sizes() == at::IntArrayRef(given_scales.shape));
  const at::Tensor& there = given_scales.type == GgmlType::i8 ? given_scales.scales : given_scales.blocks;
  if (weight.is_cuda() && there.is_cuda() && !codes) return round_kept_by(cuda_calls(), given_scales.type, on_gpu(weight), there);
  const QuantizedTensor scales = moved(given_scales, at::kCPU);
  const at::Tensor given = on_cpu(weight);
  if (scales.type == GgmlType::i8) return round_beside_int8(given, scales, codes);
  at::Tensor values = at::empty_like(given);
  const GridShape shape = grid_shape(scales.type);
  const int64_t bytes = ggml_type_info(scales.type).bytes;
  if (codes) *codes = {scales.type, scales.shape, scales.blocks.clone()};
  uint8_t* written = codes ? codes->blocks.mutable_data_ptr<uint8_t>() : nullptr;
  const float* from = given.const_data_ptr<float>();
  float* to = values.mutable_data_ptr<float>();
  each_block(scales, [&](int64_t first, int64_t block, const uint8_t* stored) {
    const Spread spread(scales.type, shape, stored);
    uint8_t chosen[256];
    round_to_grid(scales.type, from + first, spread.steps, spread.lows, shape.block, chosen, to + first);
    if (written) write_grid_codes(scales.type, chosen, written + block * bytes);
  });
  return values;
}

at::Tensor read_scales(const QuantizedTensor& given) {
  const QuantizedTensor blocks = moved(given, at::kCPU);
  if (blocks.type == GgmlType::i8) return on_cpu(blocks.scales).clone().view({-1, 1, 1});
  const ScalePlace place = scale_place(blocks.type);
  assert(place.count > 0);
  at::Tensor halves = at::empty({blocks.shape[0], blocks.shape[1] / ggml_type_info(blocks.type).block, place.count}, at::kHalf);
  auto* to = static_cast<uint8_t*>(halves.mutable_data_ptr());
  const int64_t size = 2 * place.count;
  each_block(blocks, [&](int64_t, int64_t block, const uint8_t* stored) { std::memcpy(to + block * size, stored + place.at, size_t(size)); });
  return halves.to(at::kFloat);
}

QuantizedTensor with_scales(const QuantizedTensor& blocks, const at::Tensor& scales) {
  if (blocks.type == GgmlType::i8) {
    const at::Tensor steps = on_cpu(scales).view({-1});
    check(at::isfinite(steps).all().item<bool>(), "a learned scale", "a finite number", "infinity or NaN", "lower scale_lr, or leave scales kept");
    return {blocks.type, blocks.shape, blocks.blocks, steps.clone()};
  }
  const ScalePlace place = scale_place(blocks.type);
  const at::Tensor halves = on_cpu(scales).to(at::kHalf).contiguous();
  check(at::isfinite(halves).all().item<bool>(), "a learned scale", "a magnitude that fp16 holds", "an overflow",
        "lower scale_lr, or leave scales kept");
  QuantizedTensor out{blocks.type, blocks.shape, blocks.blocks.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true)};
  uint8_t* bytes = out.blocks.mutable_data_ptr<uint8_t>();
  const auto* from = static_cast<const uint8_t*>(halves.const_data_ptr());
  const int64_t size = 2 * place.count, each = ggml_type_info(blocks.type).bytes;
  for (int64_t block = 0; block < halves.numel() / place.count; ++block)
    std::memcpy(bytes + block * each + place.at, from + block * size, size_t(size));
  return out;
}

ScaleGradients lsq_gradients(const at::Tensor& weight, const QuantizedTensor& scales, const at::Tensor& gradient) {
  const at::Tensor w = on_cpu(weight), g = on_cpu(gradient);
  if (scales.type == GgmlType::i8) {
    ScaleGradients rows;
    int8_gradients(w, on_cpu(scales.scales), g, rows.weight, rows.scales);
    return rows;
  }
  const GridShape shape = grid_shape(scales.type);
  const int count = scale_place(scales.type).count;
  ScaleGradients out{at::empty_like(w), at::empty({w.size(0), w.size(1) / shape.block, count}, at::kFloat)};
  const float *weights = w.const_data_ptr<float>(), *given = g.const_data_ptr<float>();
  float *to_weights = out.weight.mutable_data_ptr<float>(), *to_scales = out.scales.mutable_data_ptr<float>();
  const double shrink = 1 / std::sqrt(double(shape.block) * double(shape.highest));
  each_block(scales, [&](int64_t first, int64_t block, const uint8_t* stored) {
    const PartScale scale = part_scale(scales.type, stored, 0);
    ScaleSlopes sums;
    for (int64_t i = first; i < first + shape.block; ++i)
      to_weights[i] = weight_slope(weights[i], given[i], scale, float(shape.lowest), float(shape.highest), sums);
    to_scales[block * count] = float(sums.step * shrink);
    if (count > 1) to_scales[block * count + 1] = float(sums.minimum * shrink);
  });
  return out;
}

at::Tensor round_beside_learned(const at::Tensor& weight, const at::Tensor& scales, const QuantizedTensor& blocks) {
  if (weight.is_cuda() && scales.is_cuda()) return round_learned_by(cuda_calls(), blocks.type, on_gpu(weight), on_gpu(scales));
  return round_beside_scales(weight, with_scales(blocks, scales)).to(weight.device());
}

ScaleGradients learned_gradients(const at::Tensor& weight, const at::Tensor& scales, const QuantizedTensor& blocks, const at::Tensor& gradient) {
  if (weight.is_cuda() && scales.is_cuda()) {
    auto [by_weight, by_scale] = scale_gradients_by(cuda_calls(), blocks.type, on_gpu(weight), on_gpu(scales), on_gpu(gradient));
    return {by_weight, by_scale};
  }
  const ScaleGradients out = lsq_gradients(weight, with_scales(blocks, scales), gradient);
  return {out.weight.to(weight.device()), out.scales.to(scales.device())};
}

}  // namespace attar
