#pragma once
#include <ATen/core/Tensor.h>

namespace attar {

/// Turns the first 2r dimensions of each head, half against half: (a, b) -> (a cos - b sin, b cos + a sin), the rest passes.
/// x (B, T, H, d); cos, sin (T, r) or (B, T, r) float32, 2r <= d. inverse: turns back, which is also the gradient.
/// Source: Su et al. 2021, arXiv 2104.09864, with Hugging Face's split in halves.
/// rotate_ works inside x's memory without autograd: contiguous float32 on the CPU, and float32 or bfloat16 on a GPU, by
/// a kernel of ours, the rest by rotate_plain.
void rotate_(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse);

/// The specification, out of place; autograd works through it.
at::Tensor rotate_plain(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse);

}  // namespace attar
