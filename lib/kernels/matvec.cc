#include "kernels/matvec.h"

#include <immintrin.h>

#include <algorithm>
#include <cassert>
#include <cmath>

namespace attar {
namespace {

constexpr int64_t kSums = 16;
/// Rows of w that are read side by side: their sums hide each other's latency.
constexpr int64_t kSideBySide = 4;
/// Rows of w that a thread takes at a time.
constexpr int64_t kRowsAtATime = 32;
/// Floats that are asked for ahead of their use, so that memory stays busy across the ends of rows and pages.
constexpr int64_t kAhead = 1024;

struct FewRows {
  int64_t N, K;
  const float* x;
  const float* w;
  int64_t w_row;
  float* y;
};

float joined_sums(float* sums) {
  for (int64_t width = kSums / 2; width > 0; width /= 2)
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  return sums[0];
}

void few_rows_plain(const FewRows& p, int64_t M, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n)
    for (int64_t m = 0; m < M; ++m) {
      float sums[kSums] = {};
      for (int64_t k = 0; k < p.K; ++k) sums[k % kSums] = std::fma(p.w[n * p.w_row + k], p.x[m * p.K + k], sums[k % kSums]);
      p.y[m * p.N + n] = joined_sums(sums);
    }
}

#define ATTAR_FEW_512 __attribute__((target("avx512f"), always_inline)) inline
#define ATTAR_FEW_2 __attribute__((target("avx2,fma"), always_inline)) inline

/// R rows of w from row n on, all M rows of x.
template <int64_t M, int64_t R>
ATTAR_FEW_512 void few_rows_tile_512(const FewRows& p, int64_t n) {
  const float* w = p.w + n * p.w_row;
  __m512 sums[R][M];
  for (int64_t r = 0; r < R; ++r)
    for (int64_t m = 0; m < M; ++m) sums[r][m] = _mm512_setzero_ps();
  int64_t k = 0;
  for (; k + kSums <= p.K; k += kSums) {
    for (int64_t r = 0; r < R; ++r) {
      const __m512 row = _mm512_loadu_ps(w + r * p.w_row + k);
      _mm_prefetch(reinterpret_cast<const char*>(w + r * p.w_row + k + kAhead), _MM_HINT_T0);
      for (int64_t m = 0; m < M; ++m) sums[r][m] = _mm512_fmadd_ps(row, _mm512_loadu_ps(p.x + m * p.K + k), sums[r][m]);
    }
  }
  if (k < p.K) {
    const auto mask = static_cast<__mmask16>((1u << (p.K - k)) - 1);
    for (int64_t r = 0; r < R; ++r) {
      const __m512 row = _mm512_maskz_loadu_ps(mask, w + r * p.w_row + k);
      for (int64_t m = 0; m < M; ++m)
        sums[r][m] = _mm512_mask3_fmadd_ps(row, _mm512_maskz_loadu_ps(mask, p.x + m * p.K + k), sums[r][m], mask);
    }
  }
  for (int64_t r = 0; r < R; ++r)
    for (int64_t m = 0; m < M; ++m) {
      alignas(64) float out[kSums];
      _mm512_store_ps(out, sums[r][m]);
      p.y[m * p.N + n + r] = joined_sums(out);
    }
}

template <int64_t M, int64_t R>
ATTAR_FEW_2 void few_rows_tile_2(const FewRows& p, int64_t n) {
  const float* w = p.w + n * p.w_row;
  constexpr int64_t kHalf = kSums / 2;
  __m256 low[R][M], high[R][M];
  for (int64_t r = 0; r < R; ++r)
    for (int64_t m = 0; m < M; ++m) low[r][m] = high[r][m] = _mm256_setzero_ps();
  int64_t k = 0;
  for (; k + kSums <= p.K; k += kSums) {
    for (int64_t r = 0; r < R; ++r) {
      const float* at = w + r * p.w_row + k;
      const __m256 first = _mm256_loadu_ps(at), second = _mm256_loadu_ps(at + kHalf);
      _mm_prefetch(reinterpret_cast<const char*>(at + kAhead), _MM_HINT_T0);
      for (int64_t m = 0; m < M; ++m) {
        low[r][m] = _mm256_fmadd_ps(first, _mm256_loadu_ps(p.x + m * p.K + k), low[r][m]);
        high[r][m] = _mm256_fmadd_ps(second, _mm256_loadu_ps(p.x + m * p.K + k + kHalf), high[r][m]);
      }
    }
  }
  for (int64_t r = 0; r < R; ++r)
    for (int64_t m = 0; m < M; ++m) {
      alignas(32) float out[kSums];
      _mm256_store_ps(out, low[r][m]);
      _mm256_store_ps(out + kHalf, high[r][m]);
      for (int64_t i = k; i < p.K; ++i) out[i - k] = std::fma(w[r * p.w_row + i], p.x[m * p.K + i], out[i - k]);
      p.y[m * p.N + n + r] = joined_sums(out);
    }
}

template <int64_t M>
__attribute__((target("avx512f"))) void few_rows_512(const FewRows& p, int64_t begin, int64_t end) {
  int64_t n = begin;
  for (; n + kSideBySide <= end; n += kSideBySide) few_rows_tile_512<M, kSideBySide>(p, n);
  for (; n < end; ++n) few_rows_tile_512<M, 1>(p, n);
}

template <int64_t M>
__attribute__((target("avx2,fma"))) void few_rows_2(const FewRows& p, int64_t begin, int64_t end) {
  constexpr int64_t kAbreast = M == 1 ? kSideBySide : M == 2 ? 2 : 1;  // sixteen registers
  int64_t n = begin;
  for (; n + kAbreast <= end; n += kAbreast) few_rows_tile_2<M, kAbreast>(p, n);
  for (; n < end; ++n) few_rows_tile_2<M, 1>(p, n);
}

#undef ATTAR_FEW_512
#undef ATTAR_FEW_2

using FewRowsPart = void (*)(const FewRows&, int64_t, int64_t);
constexpr FewRowsPart kParts512[] = {few_rows_512<1>, few_rows_512<2>, few_rows_512<3>, few_rows_512<4>,
                                     few_rows_512<5>, few_rows_512<6>, few_rows_512<7>};
constexpr FewRowsPart kParts2[] = {few_rows_2<1>, few_rows_2<2>, few_rows_2<3>, few_rows_2<4>, few_rows_2<5>, few_rows_2<6>, few_rows_2<7>};

}  // namespace

FewRowsVersion best_few_rows_version() {
  static const FewRowsVersion best = __builtin_cpu_supports("avx512f")                                   ? FewRowsVersion::avx512
                                     : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? FewRowsVersion::avx2
                                                                                                         : FewRowsVersion::plain;
  return best;
}

void few_rows_product(int64_t M, int64_t N, int64_t K, const float* x, const float* w, int64_t w_row, float* y, int threads, FewRowsVersion version) {
  assert(M >= 1 && M <= kFewRows && w_row >= K);
  const FewRows product{N, K, x, w, w_row, y};
  const int64_t parts = (N + kRowsAtATime - 1) / kRowsAtATime;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = part * kRowsAtATime, end = std::min(N, begin + kRowsAtATime);
    if (version == FewRowsVersion::avx512) kParts512[M - 1](product, begin, end);
    else if (version == FewRowsVersion::avx2) kParts2[M - 1](product, begin, end);
    else few_rows_plain(product, M, begin, end);
  }
}

}  // namespace attar
