#include "kernels/rmsnorm.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda_calls.h"
#include "kernels/decoder_rows.h"

namespace attar {
namespace {

/// Rows of one partial sum of the weight's gradient.
constexpr int64_t kNormRows = 128;

bool norm_is_fused(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous() && weight.scalar_type() == at::kFloat && weight.is_contiguous();
}

/// What norms are computed in: float32, or float64 where the input is that.
at::ScalarType norm_type(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace

at::Tensor rms_norm_plain(const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  const at::ScalarType type = norm_type(x);
  const at::Tensor wide = x.to(type);
  const at::Tensor rstd = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return (wide * rstd * (weight.to(type) + offset)).to(x.scalar_type());
}

RmsNormResult rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  if (x.dim() < 1 || weight.dim() != 1 || x.size(-1) != weight.size(0))
    fail("rms_norm", str("rows as wide as the weight, ", weight.numel()), str(x.dim() ? x.size(-1) : 0));
  const int64_t width = x.size(-1), rows = width ? x.numel() / width : 0;
  if (x.is_cuda() && cuda_takes({x})) {
    auto [y, rstd] = rms_norm_by(cuda_calls(), x, weight, eps, offset);
    return {y, rstd};
  }
  if (!norm_is_fused(x, weight)) {
    const at::Tensor rstd = at::rsqrt(x.to(norm_type(x)).square().mean(-1) + eps).flatten();
    return {rms_norm_plain(x, weight, eps, offset), rstd};
  }
  RmsNormResult result{at::empty_like(x), at::empty({rows}, x.options())};
  const float* from = x.const_data_ptr<float>();
  const float* w = weight.const_data_ptr<float>();
  float* to = result.y.data_ptr<float>();
  float* rstd = result.rstd.data_ptr<float>();
#pragma omp parallel for schedule(static) if (rows * width > 8192)
  for (int64_t i = 0; i < rows; ++i)
    rstd[i] = rms_norm_row(from + i * width, w, to + i * width, width, static_cast<float>(eps), static_cast<float>(offset));
  return result;
}

std::pair<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                                                    const at::Tensor& rstd, double offset) {
  const int64_t width = x.size(-1), rows = width ? x.numel() / width : 0;
  if (x.is_cuda() && cuda_takes({x}) && grad.scalar_type() == x.scalar_type())
    return rms_norm_backward_by(cuda_calls(), grad.contiguous(), x, weight, rstd, offset);
  if (!norm_is_fused(x, weight) || grad.scalar_type() != at::kFloat) {
    const at::ScalarType type = norm_type(x);
    const at::Tensor flat = x.to(type).reshape({rows, width}), g = grad.to(type).reshape({rows, width});
    const at::Tensor r = rstd.unsqueeze(1), scaled = g * (weight.to(type) + offset);
    const at::Tensor dx = r * (scaled - flat * ((scaled * flat).mean(1, true) * r * r));
    return {dx.reshape(x.sizes()).to(x.scalar_type()), (g * flat * r).sum(0).to(weight.scalar_type())};
  }
  const at::Tensor dy = grad.contiguous();
  at::Tensor dx = at::empty_like(x);
  const int64_t parts = (rows + kNormRows - 1) / kNormRows;
  at::Tensor partial = at::zeros({parts, width}, x.options());
  const float* g = dy.const_data_ptr<float>();
  const float* from = x.const_data_ptr<float>();
  const float* w = weight.const_data_ptr<float>();
  const float* r = rstd.const_data_ptr<float>();
  float* to = dx.data_ptr<float>();
  float* sums = partial.data_ptr<float>();
#pragma omp parallel for schedule(static) if (rows * width > 8192)
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t i = part * kNormRows; i < std::min(rows, (part + 1) * kNormRows); ++i)
      rms_norm_backward_row(g + i * width, from + i * width, w, r[i], static_cast<float>(offset), to + i * width, sums + part * width, width);
  // Parts are added in their order, whoever computed them.
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[part * width + i];
  return {dx, parts > 1 ? partial[0].clone() : partial.reshape({width})};
}

}  // namespace attar
