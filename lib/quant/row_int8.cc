#include "quant/row_int8.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/grid_math.h"

namespace attar {
namespace {

constexpr int kInt8Candidates = 20;       ///< scales tried, each a hundredth smaller than the one before

/// Error of a row under a scale, and the scale of least error for the numbers it gives.
struct RowFit {
  double error = 0, refitted = 0;
};
RowFit fit_row(const float* w, const float* importance, int64_t columns, float scale) {
  RowFit fit;
  double by_weight = 0, by_number = 0;
  for (int64_t c = 0; c < columns; ++c) {
    const float rounded = row_int8_number(w[c], scale);
    const double number = rounded, share = importance ? importance[c] : 1.0, gap = static_cast<double>(w[c]) - static_cast<double>(rounded * scale);
    fit.error += share * gap * gap;
    by_weight += share * number * w[c], by_number += share * number * number;
  }
  fit.refitted = by_number > 0 ? by_weight / by_number : scale;
  return fit;
}

float searched_scale(const float* w, const float* importance, int64_t columns, float plain) {
  float best = plain;
  double least = fit_row(w, importance, columns, plain).error;
  for (int k = 0; k <= kInt8Candidates; ++k) {
    const auto refitted = static_cast<float>(fit_row(w, importance, columns, plain * static_cast<float>(1 - 0.01 * k)).refitted);
    const double error = fit_row(w, importance, columns, refitted).error;
    if (refitted > 0 && error < least) best = refitted, least = error;
  }
  return best;
}

}  // namespace

QuantizedTensor round_to_int8(const at::Tensor& weight, const std::vector<float>* importance, Rounding rounding) {
  const int64_t rows = weight.size(0), columns = weight.size(1);
  QuantizedTensor out{GgmlType::i8, {rows, columns}, at::empty({rows, columns}, at::kByte), at::empty({rows}, at::kFloat)};
  const float* from = weight.const_data_ptr<float>();
  float* scales = out.scales.mutable_data_ptr<float>();
  int64_t wrong = -1;
#pragma omp parallel for schedule(static) reduction(max : wrong)
  for (int64_t row = 0; row < rows; ++row) {
    const float* w = from + row * columns;
    float most = 0;
    for (int64_t c = 0; c < columns; ++c) {
      if (!std::isfinite(w[c])) wrong = std::max(wrong, row * columns + c);
      most = std::max(most, std::fabs(w[c]));
    }
    const float plain = row_int8_step(most);
    const float* shares = importance ? importance->data() : nullptr;
    scales[row] = rounding == Rounding::search && most > 0 ? searched_scale(w, shares, columns, plain) : plain;
  }
  if (wrong >= 0) fail(str("value at [", wrong / columns, ", ", wrong % columns, "]"), "a finite number", str(from[wrong]));
  QuantizedTensor codes;
  round_beside_int8(weight, out, &codes);
  return codes;
}

at::Tensor int8_values(const QuantizedTensor& tensor) {
  const at::Tensor numbers = tensor.blocks.to(at::kCPU).contiguous().view(at::kChar);
  return numbers.to(at::kFloat) * tensor.scales.to(at::kCPU).unsqueeze(1);
}

at::Tensor round_beside_int8(const at::Tensor& weight, const QuantizedTensor& scales, QuantizedTensor* codes) {
  const int64_t rows = weight.size(0), columns = weight.size(1);
  const at::Tensor steps = scales.scales.to(at::kCPU, at::kFloat).contiguous();
  at::Tensor values = at::empty_like(weight), numbers = at::empty({rows, columns}, at::kByte);
  const float *from = weight.const_data_ptr<float>(), *step = steps.const_data_ptr<float>();
  float* to = values.mutable_data_ptr<float>();
  uint8_t* number = numbers.mutable_data_ptr<uint8_t>();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = row * columns; i < (row + 1) * columns; ++i) {
      const float nearest = row_int8_number(from[i], step[row]);
      number[i] = static_cast<uint8_t>(static_cast<int8_t>(nearest));
      to[i] = nearest * step[row];
    }
  if (codes) *codes = {GgmlType::i8, {rows, columns}, numbers, steps.clone()};
  return values;
}

void int8_gradients(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& gradient, at::Tensor& by_weight, at::Tensor& by_scale) {
  const int64_t rows = weight.size(0), columns = weight.size(1);
  by_weight = at::empty_like(weight), by_scale = at::empty({rows, 1, 1}, at::kFloat);
  const float *w = weight.const_data_ptr<float>(), *g = gradient.const_data_ptr<float>(), *step = scales.const_data_ptr<float>();
  float *to_weight = by_weight.mutable_data_ptr<float>(), *to_scale = by_scale.mutable_data_ptr<float>();
  const double shrink = 1 / std::sqrt(static_cast<double>(columns) * kRowInt8Top);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    // As the members of a GPU's team add up.
    ScaleSlopes lanes[kRowLanes];
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t i = row * columns + c;
      to_weight[i] = weight_slope(w[i], g[i], {step[row], 0}, -kRowInt8Top, kRowInt8Top, lanes[c % kRowLanes]);
    }
    double sum = 0;
    for (const ScaleSlopes& lane : lanes) sum += lane.step;
    to_scale[row] = static_cast<float>(sum * shrink);
  }
}

}  // namespace attar
