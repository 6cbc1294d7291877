#include "quant/learned_rounding.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "kernels/block_grid.h"
#include "quant/each_block.h"
#include "quant/kept_scales.h"
#include "quant/quantize.h"

namespace attar {
namespace {

constexpr double kMemory = 0.9;  ///< of slopes, from one step to the next
constexpr double kOffsetReach = 0.5, kLeastFactor = 0.5, kMostFactor = 1.5, kMostHalf = 65504;
/// How far from its level a weight starts that the solution did not round to the nearest: so near the edge that a small offset crosses it, so far
/// that float32 does not.
constexpr float kEdge = 0.49f;

/// Calls visit(first weight, number of the block, its steps and lows) for every block of a weight, rows side by side.
template <class Visit> void visit_grid(const QuantizedTensor& tensor, const Visit& visit) {
  each_block(tensor, [&](int64_t first, int64_t block, const uint8_t* bytes) {
    GridScales scales;
    read_grid_scales(tensor.type, bytes, scales);
    visit(first, block, scales);
  });
}

/// Where the weights stand when no offset moves them: themselves, if the solution has their nearest level (the last one, beyond the ends), else
/// kEdge from the level that it has.
at::Tensor base_on_solution(const at::Tensor& weight, const QuantizedTensor& solution) {
  const at::Tensor values = dequantize_tensor(solution), nearest = round_beside_scales(weight, solution);
  at::Tensor base = weight.clone();
  const GridShape shape = grid_shape(solution.type);
  const float *wanted = values.const_data_ptr<float>(), *got = nearest.const_data_ptr<float>();
  float* to = base.mutable_data_ptr<float>();
  visit_grid(solution, [&](int64_t first, int64_t, const GridScales& scales) {
    for (int i = 0; i < shape.block; ++i) {
      if (wanted[first + i] == got[first + i]) continue;
      const float reach = kEdge * std::fabs(scales.step[i / shape.width]), away = to[first + i] - wanted[first + i];
      to[first + i] = wanted[first + i] + std::min(std::max(away, -reach), reach);
    }
  });
  return base;
}

}  // namespace

bool rounding_can_learn(GgmlType type) {
  return ggml_type_info(type).quantized && type != GgmlType::iq4_nl && type != GgmlType::mxfp4;
}

LearnedRounding::LearnedRounding(const at::Tensor& weight, QuantizedTensor start, bool scales)
    : start_(std::move(start)), grid_(start_), codes_(start_) {
  assert(rounding_can_learn(start_.type));
  const at::Tensor given = weight.detach().to(at::kCPU, at::kFloat).contiguous();
  check(at::isfinite(given).all().item<bool>(), "weight", "finite numbers", "infinity or NaN", "the model is damaged");
  base_ = base_on_solution(given, start_);
  offsets_ = at::zeros_like(base_);
  sums_.offsets = at::zeros_like(base_);
  if (!scales || !scales_can_learn(start_.type)) return;
  scales_ = read_scales(start_);
  factors_ = at::ones_like(scales_);
  sums_.factors = at::zeros_like(scales_);
}

at::Tensor LearnedRounding::values() {
  if (factors_.defined()) grid_ = with_scales(start_, (scales_ * factors_).clamp_(-kMostHalf, kMostHalf));
  at::Tensor moved = at::empty_like(base_);
  const GridShape shape = grid_shape(grid_.type);
  const float *base = base_.const_data_ptr<float>(), *offsets = offsets_.const_data_ptr<float>();
  float* to = moved.mutable_data_ptr<float>();
  visit_grid(grid_, [&](int64_t first, int64_t, const GridScales& scales) {
    for (int64_t i = 0; i < shape.block; ++i) to[first + i] = base[first + i] + offsets[first + i] * scales.step[i / shape.width];
  });
  return round_beside_scales(moved, grid_, &codes_);
}

LearnedRounding::Slopes LearnedRounding::slopes(const at::Tensor& gradient) const {
  const at::Tensor given = gradient.detach().to(at::kCPU, at::kFloat).contiguous();
  const GridShape shape = grid_shape(grid_.type);
  const auto lowest = float(shape.lowest), highest = float(shape.highest);
  Slopes out{at::empty_like(base_), factors_.defined() ? at::empty_like(factors_) : at::Tensor()};
  const float *base = base_.const_data_ptr<float>(), *offsets = offsets_.const_data_ptr<float>(), *g = given.const_data_ptr<float>();
  const float* stored = scales_.defined() ? scales_.const_data_ptr<float>() : nullptr;
  float *to_offsets = out.offsets.mutable_data_ptr<float>(), *to_factors = stored ? out.factors.mutable_data_ptr<float>() : nullptr;
  const int64_t count = stored ? factors_.size(2) : 0;
  visit_grid(grid_, [&](int64_t first, int64_t block, const GridScales& scales) {
    double by_step = 0, by_minimum = 0;
    for (int64_t k = 0; k < shape.block; ++k) {
      const int64_t i = first + k;
      const float step = scales.step[k / shape.width], low = scales.low[k / shape.width];
      // Without a step there are no levels to choose from.
      const float share = step != 0 ? (base[i] + low) / step : 0.0f, nearest = std::nearbyint(share + offsets[i]);
      const bool inside = nearest >= lowest && nearest <= highest;
      to_offsets[i] = inside ? g[i] * step : 0.0f;
      by_step += double(g[i]) * (step == 0 ? 0.0f : inside ? nearest - share : nearest < lowest ? lowest : highest);
      if (!inside) by_minimum += g[i];
    }
    if (count > 0) to_factors[block * count] = float(by_step * stored[block * count]);
    if (count > 1) to_factors[block * count + 1] = float(by_minimum * stored[block * count + 1]);
  });
  return out;
}

void LearnedRounding::descend(const Slopes& slopes, double size) {
  offsets_.sub_(sums_.offsets.mul_(kMemory).add_(slopes.offsets).sign(), size).clamp_(-kOffsetReach, kOffsetReach);
  if (!factors_.defined()) return;
  const double share = size / static_cast<double>(grid_shape(start_.type).highest);
  factors_.sub_(sums_.factors.mul_(kMemory).add_(slopes.factors).sign(), share).clamp_(kLeastFactor, kMostFactor);
}

}  // namespace attar
