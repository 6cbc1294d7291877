#include "eval/logit_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace attar {
namespace {

#define ATTAR_ROW_INLINE inline __attribute__((always_inline))

/// e^x for x <= 0 to about one unit in the last place, without branches or calls, so that loops over it become vector code; 0 below -708, NaN stays.
/// x = n ln 2 + r, |r| <= ln 2 / 2, and the series of e^r to r^13.
ATTAR_ROW_INLINE double exp_of(double x) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to a whole number
  const double in = x < -708.0 ? -708.0 : x;
  const double shifted = in * 1.4426950408889634 + kRound, n = shifted - kRound;
  const double r = (in - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double series = 1.0 / 6227020800.0;
  series = series * r + 1.0 / 479001600.0;
  series = series * r + 1.0 / 39916800.0;
  series = series * r + 1.0 / 3628800.0;
  series = series * r + 1.0 / 362880.0;
  series = series * r + 1.0 / 40320.0;
  series = series * r + 1.0 / 5040.0;
  series = series * r + 1.0 / 720.0;
  series = series * r + 1.0 / 120.0;
  series = series * r + 1.0 / 24.0;
  series = series * r + 1.0 / 6.0;
  series = series * r + 0.5;
  series = series * r + 1.0;
  series = series * r + 1.0;
  const int64_t power = std::bit_cast<int64_t>(shifted) - std::bit_cast<int64_t>(kRound);
  return series * std::bit_cast<double>((power + 1023) << 52);
}

struct RowPair {
  const float *base, *model;   ///< model: null where only one is scored
  int64_t n;
  float top_base = 0, top_model = 0;
  int64_t best_base = 0, best_model = 0;
  double sum_base = 0, sum_model = 0, cross = 0;   ///< cross: sum of exp(base - its top) * (base - model)
};

ATTAR_ROW_INLINE float row_top(const float* z, int64_t n, int64_t& place) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < n; ++j) top = z[j] > top ? z[j] : top;
  // The block that holds it by vector code, the place inside it one by one.
  place = 0;
  for (constexpr int64_t kFind = 128; place + kFind < n; place += kFind) {
    int32_t found = 0;
#pragma omp simd reduction(| : found)
    for (int64_t j = 0; j < kFind; ++j) found |= z[place + j] == top;
    if (found) break;
  }
  while (place + 1 < n && z[place] != top) ++place;
  return top;
}

ATTAR_ROW_INLINE void row_pair(RowPair& row) {
  const float *b = row.base, *m = row.model;
  const int64_t n = row.n;
  row.top_base = row_top(b, n, row.best_base);
  const double top_b = row.top_base;
  double sum_b = 0, sum_m = 0, cross = 0;
  if (!m) {
#pragma omp simd reduction(+ : sum_b)
    for (int64_t j = 0; j < n; ++j) sum_b += exp_of(static_cast<double>(b[j]) - top_b);
    row.sum_base = sum_b;
    return;
  }
  row.top_model = row_top(m, n, row.best_model);
  const double top_m = row.top_model;
#pragma omp simd reduction(+ : sum_b, sum_m, cross)
  for (int64_t j = 0; j < n; ++j) {
    const double zb = b[j], zm = m[j], e = exp_of(zb - top_b);
    sum_b += e;
    sum_m += exp_of(zm - top_m);
    cross += e * (zb - zm);
  }
  row.sum_base = sum_b, row.sum_model = sum_m, row.cross = cross;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))) void row_pair_avx512(RowPair& row) { row_pair(row); }
__attribute__((target("avx2"))) void row_pair_avx2(RowPair& row) { row_pair(row); }
#endif
void row_pair_portable(RowPair& row) { row_pair(row); }

using RowPairFunction = void (*)(RowPair&);
RowPairFunction pick_row_pair() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return row_pair_avx512;
  if (__builtin_cpu_supports("avx2")) return row_pair_avx2;
#endif
  return row_pair_portable;
}

/// Float32 rows on the CPU, whole side by side.
at::Tensor plain_rows(const at::Tensor& logits) {
  const at::Tensor out = logits.cpu().to(at::kFloat);
  return out.stride(1) == 1 ? out : out.contiguous();
}

/// Calls `put(r, row)` for every row, over the threads.
template <class Put>
void each_row(const at::Tensor& base, const at::Tensor& model, const Put& put) {
  static const RowPairFunction function = pick_row_pair();
  const int64_t count = base.size(0), n = base.size(1), base_stride = base.stride(0), model_stride = model.defined() ? model.stride(0) : 0;
  const float *from = base.const_data_ptr<float>(), *to = model.defined() ? model.const_data_ptr<float>() : nullptr;
#pragma omp parallel for schedule(static) num_threads(at::get_num_threads()) if (count * n > 16384)
  for (int64_t r = 0; r < count; ++r) {
    RowPair row{from + r * base_stride, to ? to + r * model_stride : nullptr, n};
    function(row);
    put(r, row);
  }
}

ScoredRow scored(const float* row, float top, int64_t best, double sum, int64_t target) {
  return {std::log(sum) + static_cast<double>(top) - static_cast<double>(row[target]), 1 / sum, best, best == target};
}

at::Tensor checked_targets(const at::Tensor& logits, const at::Tensor& targets) {
  check(logits.dim() == 2 && targets.dim() == 1 && logits.size(0) == targets.size(0) && logits.size(1) > 0, "logits and what follows",
        "(n, V) and (n)", str(logits.dim(), " and ", targets.dim(), " dimensions"));
  const at::Tensor out = targets.cpu().to(at::kLong).contiguous();
  if (out.numel() > 0)
    check(out.min().item<int64_t>() >= 0 && out.max().item<int64_t>() < logits.size(1), "ids that follow", str("0 to ", logits.size(1) - 1),
          "others");
  return out;
}

}  // namespace

std::vector<ScoredRow> score_rows(const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor rows = plain_rows(logits), ids = checked_targets(logits, targets);
  const int64_t* target = ids.const_data_ptr<int64_t>();
  std::vector<ScoredRow> out(static_cast<size_t>(rows.size(0)));
  each_row(rows, {}, [&](int64_t r, const RowPair& row) {
    out[static_cast<size_t>(r)] = scored(row.base, row.top_base, row.best_base, row.sum_base, target[r]);
  });
  return out;
}

std::vector<ComparedRow> compare_rows(const at::Tensor& base, const at::Tensor& model, const at::Tensor& targets) {
  check(base.sizes() == model.sizes(), "logits of base and model", "of one shape", "others");
  const at::Tensor from = plain_rows(base), to = plain_rows(model), ids = checked_targets(base, targets);
  const int64_t* target = ids.const_data_ptr<int64_t>();
  std::vector<ComparedRow> out(static_cast<size_t>(from.size(0)));
  each_row(from, to, [&](int64_t r, const RowPair& row) {
    const double difference =
        (std::log(row.sum_base) - std::log(row.sum_model)) + (static_cast<double>(row.top_base) - static_cast<double>(row.top_model));
    out[static_cast<size_t>(r)] = {scored(row.base, row.top_base, row.best_base, row.sum_base, target[r]),
                                   scored(row.model, row.top_model, row.best_model, row.sum_model, target[r]), row.cross / row.sum_base - difference};
  });
  return out;
}

std::vector<ComparedRow> compare_rows_plain(const at::Tensor& base, const at::Tensor& model, const at::Tensor& targets) {
  const at::Tensor p = at::log_softmax(base.to(at::kDouble), 1), q = at::log_softmax(model.to(at::kDouble), 1);
  const at::Tensor kl = (p.exp() * (p - q)).sum(1);
  std::vector<ComparedRow> out;
  for (int64_t r = 0; r < p.size(0); ++r) {
    const auto side = [&](const at::Tensor& scores) {
      const int64_t best = scores[r].argmax().item<int64_t>(), target = targets[r].item<int64_t>();
      return ScoredRow{-scores[r][target].item<double>(), std::exp(scores[r][best].item<double>()), best, best == target};
    };
    out.push_back({side(p), side(q), kl[r].item<double>()});
  }
  return out;
}

#undef ATTAR_ROW_INLINE

}  // namespace attar
