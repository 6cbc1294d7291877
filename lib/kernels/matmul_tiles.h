#pragma once
#include <cstdint>

namespace attar {

/// A matrix that is read: element (i, j) lies at data[i * row + j * column]; one of the two strides is 1.
struct MatrixView {
  const float* data;
  int64_t row, column;
};

/// Whether this processor can run matrix_product (AVX-512).
bool matrix_product_runs();
/// Whether it is also the quickest here: on AMD's processors, to which Intel's MKL inside LibTorch gives its AVX2 code.
bool matrix_product_is_quickest();

/// c = a b, or c += a b: a (M, K), b (K, N), c (M, N) with rows `c_row` apart. Each element is summed over K in blocks of a fixed length in
/// rising order by fused multiply-adds: the same bits for any number of threads. Blocking: Goto and van de Geijn 2008, "Anatomy of
/// High-Performance Matrix Multiplication".
void matrix_product(int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t c_row, bool add, int threads);

}  // namespace attar
