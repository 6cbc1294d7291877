#include "kernels/rope.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/check.h"
#include "kernels/cuda_calls.h"
#include "kernels/decoder_rows.h"

namespace attar {
namespace {

void check_rotation(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const bool fits = x.dim() == 4 && (cos.dim() == 2 || cos.dim() == 3) && cos.sizes() == sin.sizes() && cos.size(-2) == x.size(1) &&
                    (cos.dim() == 2 || cos.size(0) == x.size(0)) && 2 * cos.size(-1) <= x.size(3);
  if (!fits) fail("rotate", "x (B, T, H, d) with cos and sin (T, r) or (B, T, r), 2r <= d", attar::str("x of ", x.sizes(), ", cos of ", cos.sizes()));
}

}  // namespace

at::Tensor rotate_plain(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  check_rotation(x, cos, sin);
  const int64_t half = cos.size(-1), size = x.size(3);
  const at::Tensor c = cos.unsqueeze(-2), s = inverse ? sin.unsqueeze(-2).neg() : sin.unsqueeze(-2);  // (.., T, 1, r)
  const at::ScalarType type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor a = x.narrow(3, 0, half).to(type), b = x.narrow(3, half, half).to(type);
  std::vector<at::Tensor> parts{(a * c - b * s).to(x.scalar_type()), (b * c + a * s).to(x.scalar_type())};
  if (2 * half < size) parts.push_back(x.narrow(3, 2 * half, size - 2 * half));
  return at::cat(parts, 3);
}

void rotate_(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  check_rotation(x, cos, sin);
  if (x.is_cuda() && cuda_takes({x})) return rotate_by(cuda_calls(), x, cos, sin, inverse);
  const bool fused = x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous() && cos.is_contiguous() && sin.is_contiguous() &&
                     cos.scalar_type() == at::kFloat && sin.scalar_type() == at::kFloat;
  if (!fused) {
    const at::NoGradGuard no_grad;
    x.copy_(rotate_plain(x, cos, sin, inverse));
    return;
  }
  const int64_t T = x.size(1), rows = x.size(0) * T, heads = x.size(2), size = x.size(3), half = cos.size(-1);
  const bool per_row = cos.dim() == 3;
  float* data = x.data_ptr<float>();
  const float* c = cos.const_data_ptr<float>();
  const float* s = sin.const_data_ptr<float>();
  const float sign = inverse ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static) if (rows * heads * size > 16384)
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t angle = (per_row ? i : i % T) * half;
    rotate_row(data + i * heads * size, heads, size, half, c + angle, s + angle, sign);
  }
}

}  // namespace attar
