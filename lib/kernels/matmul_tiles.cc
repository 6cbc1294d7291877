#include "kernels/matmul_tiles.h"

#include <algorithm>
#include <memory>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace attar {

#if defined(__x86_64__)
namespace {

constexpr int64_t kTileRows = 12, kTileColumns = 32;  ///< of c in registers: 24 of the 32 vectors
constexpr int64_t kDepth = 256;                       ///< of a block: 32 columns of b take two thirds of a 48 KiB first-level cache
constexpr int64_t kBlockRows = 144;                   ///< of a in the second-level cache
constexpr int64_t kBlockColumns = 2048;               ///< of b in the cache that cores share: 2 MiB a thread

#define ATTAR_TILE_TARGET __attribute__((target("avx512f")))

/// Where a tile's sums go.
struct TileOutput {
  float* c;
  int64_t row;
  int64_t rows, columns;  ///< that exist
  bool add;
};

/// One tile: 12 rows of a against 32 packed columns of b. a's element (i, k) lies at a[i * row + k * kStep]; kStep is 1 for rows as they lie in
/// memory, 12 for packed ones (row is 1).
template <int64_t kStep>
ATTAR_TILE_TARGET inline __attribute__((always_inline)) void product_tile(int64_t depth, const float* a, int64_t row, const float* b,
                                                                          const TileOutput& out) {
  __m512 sums[kTileRows][2];
  for (int64_t i = 0; i < out.rows; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(out.c + i * out.row), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(out.c + i * out.row + 16), _MM_HINT_T0);
  }
#pragma GCC unroll 12
  for (int64_t i = 0; i < kTileRows; ++i) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
  const int64_t unit = kStep == 1 ? row : 1;
  // Four pointers, three rows each: more would not fit the address registers.
  const float *a0 = a, *a3 = a + 3 * unit, *a6 = a + 6 * unit, *a9 = a + 9 * unit;
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    const __m512 left = _mm512_loadu_ps(b), right = _mm512_loadu_ps(b + 16);
    b += kTileColumns;
#pragma GCC unroll 3
    for (int64_t i = 0; i < 3; ++i) {
      const __m512 x0 = _mm512_set1_ps(a0[i * unit]), x3 = _mm512_set1_ps(a3[i * unit]);
      sums[i][0] = _mm512_fmadd_ps(x0, left, sums[i][0]);
      sums[i][1] = _mm512_fmadd_ps(x0, right, sums[i][1]);
      sums[i + 3][0] = _mm512_fmadd_ps(x3, left, sums[i + 3][0]);
      sums[i + 3][1] = _mm512_fmadd_ps(x3, right, sums[i + 3][1]);
      const __m512 x6 = _mm512_set1_ps(a6[i * unit]), x9 = _mm512_set1_ps(a9[i * unit]);
      sums[i + 6][0] = _mm512_fmadd_ps(x6, left, sums[i + 6][0]);
      sums[i + 6][1] = _mm512_fmadd_ps(x6, right, sums[i + 6][1]);
      sums[i + 9][0] = _mm512_fmadd_ps(x9, left, sums[i + 9][0]);
      sums[i + 9][1] = _mm512_fmadd_ps(x9, right, sums[i + 9][1]);
    }
    a0 += kStep, a3 += kStep, a6 += kStep, a9 += kStep;
  }
  if (out.rows == kTileRows && out.columns == kTileColumns) {
#pragma GCC unroll 12
    for (int64_t i = 0; i < kTileRows; ++i) {
      float* c = out.c + i * out.row;
      if (out.add) {
        sums[i][0] = _mm512_add_ps(sums[i][0], _mm512_loadu_ps(c));
        sums[i][1] = _mm512_add_ps(sums[i][1], _mm512_loadu_ps(c + 16));
      }
      _mm512_storeu_ps(c, sums[i][0]);
      _mm512_storeu_ps(c + 16, sums[i][1]);
    }
    return;
  }
  const auto first = static_cast<__mmask16>((1u << std::min<int64_t>(out.columns, 16)) - 1);
  const auto second = static_cast<__mmask16>((1u << std::max<int64_t>(out.columns - 16, 0)) - 1);
#pragma GCC unroll 12
  for (int64_t i = 0; i < kTileRows; ++i) {
    if (i >= out.rows) continue;
    float* c = out.c + i * out.row;
    if (out.add) {
      sums[i][0] = _mm512_add_ps(sums[i][0], _mm512_maskz_loadu_ps(first, c));
      sums[i][1] = _mm512_add_ps(sums[i][1], _mm512_maskz_loadu_ps(second, c + 16));
    }
    _mm512_mask_storeu_ps(c, first, sums[i][0]);
    _mm512_mask_storeu_ps(c + 16, second, sums[i][1]);
  }
}
ATTAR_TILE_TARGET void tile_of_rows(int64_t depth, const float* a, int64_t row, const float* b, const TileOutput& out) {
  product_tile<1>(depth, a, row, b, out);
}
ATTAR_TILE_TARGET void tile_of_packed(int64_t depth, const float* a, const float* b, const TileOutput& out) {
  product_tile<kTileRows>(depth, a, 1, b, out);
}

using Floats16 = float __attribute__((vector_size(64)));
// Two vectors' values in turn, within quarters: singly (low or high half of each quarter) and in pairs.
#define ATTAR_SINGLES_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define ATTAR_SINGLES_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define ATTAR_PAIRS_LOW(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define ATTAR_PAIRS_HIGH(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
// Quarters 0 and 2, or 1 and 3, of both.
#define ATTAR_QUARTERS_EVEN(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define ATTAR_QUARTERS_ODD(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)

/// to[k * 32 + j] = from[j * row + k] for 16 by 16 values.
ATTAR_TILE_TARGET void transpose_16(const float* from, int64_t row, float* to) {
  Floats16 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = reinterpret_cast<Floats16>(_mm512_loadu_ps(from + i * row));
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = ATTAR_SINGLES_LOW(r[i], r[i + 1]);
    t[i + 1] = ATTAR_SINGLES_HIGH(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = ATTAR_PAIRS_LOW(t[i], t[i + 2]);
    r[i + 1] = ATTAR_PAIRS_HIGH(t[i], t[i + 2]);
    r[i + 2] = ATTAR_PAIRS_LOW(t[i + 1], t[i + 3]);
    r[i + 3] = ATTAR_PAIRS_HIGH(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = ATTAR_QUARTERS_EVEN(r[i], r[i + 4]);
    t[i + 4] = ATTAR_QUARTERS_ODD(r[i], r[i + 4]);
    t[i + 8] = ATTAR_QUARTERS_EVEN(r[i + 8], r[i + 12]);
    t[i + 12] = ATTAR_QUARTERS_ODD(r[i + 8], r[i + 12]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = ATTAR_QUARTERS_EVEN(t[i], t[i + 8]);
    r[i + 8] = ATTAR_QUARTERS_ODD(t[i], t[i + 8]);
    r[i + 4] = ATTAR_QUARTERS_EVEN(t[i + 4], t[i + 12]);
    r[i + 12] = ATTAR_QUARTERS_ODD(t[i + 4], t[i + 12]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(to + i * kTileColumns, reinterpret_cast<__m512>(r[i]));
}
#undef ATTAR_SINGLES_LOW
#undef ATTAR_SINGLES_HIGH
#undef ATTAR_PAIRS_LOW
#undef ATTAR_PAIRS_HIGH
#undef ATTAR_QUARTERS_EVEN
#undef ATTAR_QUARTERS_ODD

/// `columns` (32 at most) columns of b from (0, 0), `depth` values each, as to[k * 32 + j]; zeros where there are fewer columns.
ATTAR_TILE_TARGET void pack_columns(const float* b, const MatrixView& view, int64_t depth, int64_t columns, float* to) {
  if (columns == kTileColumns && view.column == 1) {
    for (int64_t k = 0; k < depth; ++k, to += kTileColumns) {
      _mm512_storeu_ps(to, _mm512_loadu_ps(b + k * view.row));
      _mm512_storeu_ps(to + 16, _mm512_loadu_ps(b + k * view.row + 16));
    }
    return;
  }
  int64_t done = 0;
  if (columns == kTileColumns && view.row == 1) {
    for (; done + 16 <= depth; done += 16) {
      transpose_16(b + done, view.column, to + done * kTileColumns);
      transpose_16(b + done + 16 * view.column, view.column, to + done * kTileColumns + 16);
    }
  }
  for (int64_t k = done; k < depth; ++k) {
    for (int64_t j = 0; j < columns; ++j) to[k * kTileColumns + j] = b[k * view.row + j * view.column];
    for (int64_t j = columns; j < kTileColumns; ++j) to[k * kTileColumns + j] = 0;
  }
}

/// 12 rows of a, of which `rows` exist, as to[k * 12 + i]. `to` has room for four values more.
ATTAR_TILE_TARGET void pack_rows(const float* a, const MatrixView& view, int64_t depth, int64_t rows, float* to) {
  if (rows == kTileRows && view.row == 1) {
    for (int64_t k = 0; k < depth; ++k) _mm512_storeu_ps(to + k * kTileRows, _mm512_maskz_loadu_ps(0xfff, a + k * view.column));
    return;
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t i = 0; i < rows; ++i) to[k * kTileRows + i] = a[i * view.row + k * view.column];
    for (int64_t i = rows; i < kTileRows; ++i) to[k * kTileRows + i] = 0;
  }
}

struct FreeAligned {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
};
using AlignedFloats = std::unique_ptr<float[], FreeAligned>;
AlignedFloats aligned_floats(int64_t count) {
  return AlignedFloats(static_cast<float*>(::operator new[](static_cast<size_t>(count) * sizeof(float), std::align_val_t(64))));
}

/// Rows [begin, begin + rows) of c against the packed block of b.
void product_block(const MatrixView& a, int64_t begin, int64_t rows, int64_t first_k, int64_t depth, const float* b, int64_t columns, float* c,
                   int64_t c_row, bool add, float* packed) {
  const float* source = a.data + begin * a.row + first_k * a.column;
  // Rows that lie in memory one after the other, value by value, are read where they are.
  const int64_t whole = a.column == 1 ? rows / kTileRows * kTileRows : 0;
  for (int64_t i = whole; i < rows; i += kTileRows)
    pack_rows(source + i * a.row, a, depth, std::min(kTileRows, rows - i), packed + (i - whole) * depth);
  for (int64_t j = 0; j < columns; j += kTileColumns) {
    const float* panel = b + j * depth;
    for (int64_t i = 0; i < rows; i += kTileRows) {
      const TileOutput out{c + (begin + i) * c_row + j, c_row, std::min(kTileRows, rows - i), std::min(kTileColumns, columns - j), add};
      if (i < whole) {
        tile_of_rows(depth, source + i * a.row, a.row, panel, out);
      } else {
        tile_of_packed(depth, packed + (i - whole) * depth, panel, out);
      }
    }
  }
}

int64_t rounded_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/// The product by one thread.
void product_share(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b, float* c, int64_t c_row, bool add) {
  const int64_t most_depth = std::min(kDepth, K), block_rows = std::min(kBlockRows, rounded_up(M, kTileRows));
  const AlignedFloats block = aligned_floats(std::min(kBlockColumns, rounded_up(N, kTileColumns)) * most_depth);
  const AlignedFloats packed = aligned_floats(block_rows * most_depth + 16);
  for (int64_t column = 0; column < N; column += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, N - column);
    for (int64_t k = 0; k < K; k += kDepth) {
      const int64_t depth = std::min(kDepth, K - k);
      for (int64_t j = 0; j < columns; j += kTileColumns)
        pack_columns(b.data + k * b.row + (column + j) * b.column, b, depth, std::min(kTileColumns, columns - j), block.get() + j * depth);
      for (int64_t i = 0; i < M; i += block_rows)
        product_block(a, i, std::min(block_rows, M - i), k, depth, block.get(), columns, c + column, c_row, add || k > 0, packed.get());
    }
  }
}

}  // namespace

bool matrix_product_runs() {
  static const bool runs = __builtin_cpu_supports("avx512f");
  return runs;
}
bool matrix_product_is_quickest() {
  static const bool amd = __builtin_cpu_is("amd");
  return amd && matrix_product_runs();
}

void matrix_product(int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t c_row, bool add, int threads) {
  if (M <= 0 || N <= 0) return;
  if (K <= 0) {
    for (int64_t i = 0; i < M && !add; ++i) std::fill_n(c + i * c_row, N, 0.0f);
    return;
  }
  // Each thread has a share of the longer side to itself, with a block of b of its own: nobody waits for another before the end.
  const bool by_rows = M >= N;
  const int64_t share = rounded_up(((by_rows ? M : N) + threads - 1) / threads, by_rows ? kTileRows : kTileColumns);
  if (threads == 1 || share >= (by_rows ? M : N)) {
    product_share(M, N, K, a, b, c, c_row, add);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int64_t begin = 0; begin < (by_rows ? M : N); begin += share) {
    const int64_t size = std::min(share, (by_rows ? M : N) - begin);
    if (by_rows) {
      product_share(size, N, K, {a.data + begin * a.row, a.row, a.column}, b, c + begin * c_row, c_row, add);
    } else {
      product_share(M, size, K, a, {b.data + begin * b.column, b.row, b.column}, c + begin, c_row, add);
    }
  }
}

#undef ATTAR_TILE_TARGET
#else

bool matrix_product_runs() { return false; }
bool matrix_product_is_quickest() { return false; }
void matrix_product(int64_t, int64_t, int64_t, MatrixView, MatrixView, float*, int64_t, bool, int) {}

#endif

}  // namespace attar
