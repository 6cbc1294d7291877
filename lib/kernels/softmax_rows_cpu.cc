#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/softmax_rows.h"
#include "kernels/vector_math.h"

namespace attar {
namespace {

struct SoftmaxRow {
  float* z;
  int64_t n;
  float scale;
  double log_sum = 0, entropy = 0;
  int32_t top = 0;
};

ATTAR_INLINE void softmax_row(SoftmaxRow& row) {
  float* z = row.z;
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < row.n; ++j) top = z[j] > top ? z[j] : top;
  // The block that holds it by vector code, the place inside it one by one.
  int64_t place = 0;
  for (constexpr int64_t kFind = 128; place + kFind < row.n; place += kFind) {
    int32_t found = 0;
#pragma omp simd reduction(| : found)
    for (int64_t j = 0; j < kFind; ++j) found |= z[place + j] == top;
    if (found) break;
  }
  while (place + 1 < row.n && z[place] != top) ++place;
  row.top = static_cast<int32_t>(place);
  double total = 0, cross = 0;
  constexpr int64_t kStep = 2048;
  for (int64_t begin = 0; begin < row.n; begin += kStep) {
    const int64_t end = begin + kStep < row.n ? begin + kStep : row.n;
    float sum = 0, weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
    for (int64_t j = begin; j < end; ++j) {
      const float x = (z[j] - top) * row.scale, e = vector_exp(x);
      z[j] = e;
      sum += e;
      weighted += e * x;
    }
    total += sum;
    cross += weighted;
  }
  const float inverse = static_cast<float>(1 / total);
#pragma omp simd
  for (int64_t j = 0; j < row.n; ++j) z[j] *= inverse;
  row.log_sum = std::log(total) + static_cast<double>(top) * row.scale;
  row.entropy = std::log(total) - cross / total;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))) void softmax_row_avx512(SoftmaxRow& row) { softmax_row(row); }
__attribute__((target("avx2"))) void softmax_row_avx2(SoftmaxRow& row) { softmax_row(row); }
#endif
void softmax_row_portable(SoftmaxRow& row) { softmax_row(row); }

using SoftmaxRowFunction = void (*)(SoftmaxRow&);
SoftmaxRowFunction pick_softmax_row() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return softmax_row_avx512;
  if (__builtin_cpu_supports("avx2")) return softmax_row_avx2;
#endif
  return softmax_row_portable;
}

}  // namespace

SoftmaxFacts softmax_rows_(at::Tensor& logits, double temperature) {
  check(logits.dim() == 2 && logits.scalar_type() == at::kFloat && logits.device().is_cpu() && logits.size(1) > 0 && logits.stride(1) == 1,
        "softmax_rows_: logits", "(P, V) float32 on the CPU, rows whole", "another shape, dtype or place");
  static const SoftmaxRowFunction function = pick_softmax_row();
  const int64_t count = logits.size(0);
  SoftmaxFacts facts{at::empty({count}, at::kDouble), at::empty({count}, at::kDouble), at::empty({count}, at::kInt)};
  double* log_sum = facts.log_sum.data_ptr<double>();
  double* entropy = facts.entropy.data_ptr<double>();
  int32_t* top = facts.top_id.data_ptr<int32_t>();
  float* z = logits.data_ptr<float>();
  const int64_t stride = logits.stride(0), n = logits.size(1);
#pragma omp parallel for schedule(static) num_threads(at::get_num_threads()) if (count * n > 16384)
  for (int64_t r = 0; r < count; ++r) {
    SoftmaxRow row{z + r * stride, n, static_cast<float>(1 / temperature)};
    function(row);
    log_sum[r] = row.log_sum;
    entropy[r] = row.entropy;
    top[r] = row.top;
  }
  check(facts.entropy.isfinite().all().item<bool>(), "a teacher's logits", "finite numbers", "NaN or infinity");
  return facts;
}

SoftmaxFacts softmax_facts_plain(const at::Tensor& logits, double temperature) {
  const at::Tensor x = logits.to(at::kDouble) / temperature, log_p = x.log_softmax(-1);
  return {x.logsumexp(-1), -(log_p.exp() * log_p).sum(-1), logits.argmax(-1).to(at::kInt)};
}

}  // namespace attar
