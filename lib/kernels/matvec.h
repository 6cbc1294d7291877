#pragma once
#include <cstdint>

namespace attar {

/// Rows up to which a product reads each weight once and is bound by that: decoding.
constexpr int64_t kFewRows = 7;

enum class FewRowsVersion { plain, avx2, avx512 };
/// The quickest version that this processor runs.
FewRowsVersion best_few_rows_version();

/// y = x w^T for few rows: x (M, K) dense, w (N, K) with rows `w_row` apart, y (M, N) dense, M from 1 to kFewRows.
/// An element is 16 sums (position modulo 16) by fused multiply-adds in rising order, joined by halving: the same bits for every version, every
/// number of threads and every M. The plain version is the specification.
void few_rows_product(int64_t M, int64_t N, int64_t K, const float* x, const float* w, int64_t w_row, float* y, int threads,
                      FewRowsVersion version = best_few_rows_version());

}  // namespace attar
