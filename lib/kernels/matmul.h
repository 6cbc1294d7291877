#pragma once
#include <ATen/core/Tensor.h>

namespace attar {

/// out = a b, or out += a b: a (M, K), b (K, N), out (M, N). float32 on the CPU goes through matrix_product (kernels/matmul_tiles.h) where that is
/// the quickest, with transposed views read as they are; everything else is LibTorch's mm. The plain version is at::mm.
/// A row of out depends on its row of a alone, not on how many rows there are (from 8 rows on).
void matmul_into(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add = false);

}  // namespace attar
