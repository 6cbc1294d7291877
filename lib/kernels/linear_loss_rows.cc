// Row arithmetic of linear_loss on the CPU: softmax, terms and gradient of one row at a time while it lies in cache.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "base/check.h"
#include "kernels/linear_loss_parts.h"
#include "kernels/vector_math.h"

namespace attar {
namespace {

/// One row: logits z become the gradient; y are the teacher's logits or log-probabilities.
template <class S>
struct LossRowJob {
  S* z = nullptr;
  S* y = nullptr;
  int64_t n = 0, label = 0;
  double weight = 1, softcap = 0, teacher_softcap = 0, teacher_scale = 1;
  const int32_t* ids = nullptr;
  const S* probs = nullptr;
  int64_t k = 0;
  bool has_tail = false, gradients = false;
  double tail = 0;
  LossWeights w;
  S* kept = nullptr;  ///< room for k logits
  double loss = 0, teacher = 0, ce = 0;
  bool twice = false;  ///< an id stands twice in ids
};

constexpr int64_t kLossBlock = 2048;  ///< partial sums in the row's own precision are this long, their total is float64

template <class S>
ATTAR_INLINE void cap_row(S* z, int64_t n, S cap) {
  const S inverse = 1 / cap;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) z[j] = cap * vector_tanh(z[j] * inverse);
}

template <class S>
ATTAR_INLINE S row_maximum(const S* z, int64_t n) {
  S best = -std::numeric_limits<S>::infinity();
#pragma omp simd reduction(max : best)
  for (int64_t j = 0; j < n; ++j) best = z[j] > best ? z[j] : best;
  return best;
}

/// Sum of exp((z - top) scale).
template <class S>
ATTAR_INLINE double sum_exp(const S* z, int64_t n, S top, S scale) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kLossBlock) {
    const int64_t end = begin + kLossBlock < n ? begin + kLossBlock : n;
    S sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = begin; j < end; ++j) sum += vector_exp((z[j] - top) * scale);
    total += sum;
  }
  return total;
}

/// g = a exp(z - top) + b exp((z - other) scale), times the soft cap's slope.
template <class S>
ATTAR_INLINE void write_two(S* z, int64_t n, S a, S top, S b, S other, S scale, S inverse_cap) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const S u = z[j] * inverse_cap;
    z[j] = (a * vector_exp(z[j] - top) + b * vector_exp((z[j] - other) * scale)) * (1 - u * u);
  }
}
template <class S>
ATTAR_INLINE void write_one(S* z, int64_t n, S a, S top, S inverse_cap) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const S u = z[j] * inverse_cap;
    z[j] = a * vector_exp(z[j] - top) * (1 - u * u);
  }
}

template <class S>
ATTAR_INLINE double cap_slope(const LossRowJob<S>& job, S z) {
  return job.softcap > 0 ? 1 - (z / job.softcap) * (z / job.softcap) : 1.0;
}

/// Labels alone, or with a sampled teacher: cross-entropy with both.
template <class S>
ATTAR_INLINE void gather_row(LossRowJob<S>& job) {
  const double T = job.w.temperature;
  if (job.softcap > 0) cap_row<S>(job.z, job.n, S(job.softcap));
  const S top = row_maximum(job.z, job.n);
  const double sum1 = sum_exp<S>(job.z, job.n, top, S(1));
  const double log1 = std::log(sum1);
  const S label = job.z[job.label];
  job.ce = log1 - (label - top);
  double mass = 0, sum_t = sum1;
  if (job.k > 0) {
    if (T != 1) sum_t = sum_exp<S>(job.z, job.n, top, S(1 / T));
    const double log_t = std::log(sum_t);
    for (int64_t i = 0; i < job.k; ++i) {
      if (job.ids[i] < 0) continue;
      job.kept[i] = job.z[job.ids[i]];
      mass += job.probs[i];
      job.teacher -= T * T * job.probs[i] * ((job.kept[i] - top) / T - log_t);
    }
  }
  job.loss = job.weight * (job.w.ce * job.ce + job.w.kl * job.teacher);
  if (!job.gradients) return;
  const S inverse = job.softcap > 0 ? S(1 / job.softcap) : S(0);
  double first = job.weight * job.w.ce / sum1;
  const double second = job.weight * job.w.kl * T * mass / sum_t;
  if (T == 1) {
    first += second;
    write_one<S>(job.z, job.n, S(first), top, inverse);
  } else {
    write_two<S>(job.z, job.n, S(first), top, S(second), top, S(1 / T), inverse);
  }
  job.z[job.label] -= S(job.weight * job.w.ce * cap_slope(job, label));
  for (int64_t i = 0; i < job.k; ++i) {
    if (job.ids[i] >= 0) job.z[job.ids[i]] -= S(job.weight * job.w.kl * T * job.probs[i] * cap_slope(job, job.kept[i]));
  }
}

/// A top-k teacher whose tail is one bucket. The kept ids are taken out of the row (-inf), so that the outside is summed by itself.
template <class S>
ATTAR_INLINE void tail_row(LossRowJob<S>& job) {
  const double T = job.w.temperature;
  const S nothing = -std::numeric_limits<S>::infinity();
  if (job.softcap > 0) cap_row<S>(job.z, job.n, S(job.softcap));
  const S label = job.z[job.label];
  S top = nothing;
  int64_t there = 0;
  double mass = 0;
  for (int64_t i = 0; i < job.k; ++i) {
    if (job.ids[i] < 0) continue;
    S& value = job.z[job.ids[i]];
    job.twice |= value == nothing;
    job.kept[i] = value;
    value = nothing;
    top = job.kept[i] > top ? job.kept[i] : top;
    mass += job.probs[i];
    ++there;
  }
  const bool any_outside = there < job.n;
  const S top_out = row_maximum(job.z, job.n);
  top = top_out > top ? top_out : top;
  const S shift = any_outside ? top_out : top;
  const double sum_out = any_outside ? sum_exp<S>(job.z, job.n, shift, S(1 / T)) : 0;
  double sum1 = any_outside ? sum_exp<S>(job.z, job.n, top, S(1)) : 0;
  double sum_t = sum_out * std::exp((shift - top) / T);
  double inside = 0;
  for (int64_t i = 0; i < job.k; ++i) {
    if (job.ids[i] < 0) continue;
    sum1 += std::exp(static_cast<double>(job.kept[i] - top));
    inside += std::exp((job.kept[i] - top) / T);
  }
  sum_t += inside;
  const double log1 = std::log(sum1), log_t = std::log(sum_t), share = inside / sum_t;
  const double tail = any_outside && there > 0 ? job.tail : 0;
  job.ce = log1 - (label - top);
  double value = 0;
  for (int64_t i = 0; i < job.k; ++i) {
    if (job.ids[i] < 0 || job.probs[i] <= 0) continue;
    const double t = job.probs[i];
    value += t * (std::log(t) - ((job.kept[i] - top) / T - log_t));
  }
  if (tail > 0) value += tail * (std::log(tail) - (std::log(sum_out) + (shift - top) / T - log_t));
  job.teacher = T * T * value;
  job.loss = job.weight * (job.w.ce * job.ce + job.w.kl * job.teacher);
  if (!job.gradients) return;
  const double kl = job.weight * job.w.kl * T, ce = job.weight * job.w.ce;
  const double scale_t = std::exp((shift - top) / T) / sum_t;  // exp((z - shift) / T) times this is p
  const double outside = any_outside ? kl * (mass * scale_t - tail * share / sum_out) : 0;
  const S inverse = job.softcap > 0 ? S(1 / job.softcap) : S(0);
  write_two<S>(job.z, job.n, S(ce / sum1), top, S(outside), shift, S(1 / T), inverse);
  for (int64_t i = 0; i < job.k; ++i) {
    if (job.ids[i] < 0) continue;
    const double z = job.kept[i], p1 = std::exp(z - top) / sum1, p = std::exp((z - top) / T) / sum_t;
    job.z[job.ids[i]] = S((ce * p1 + kl * ((mass + tail) * p - job.probs[i])) * cap_slope(job, job.kept[i]));
  }
  job.z[job.label] -= S(ce * cap_slope(job, label));
}

/// What the terms beside forward KL say of one id: f (their derivative by p, as through_softmax takes it) and the weighted and plain value.
template <class S>
struct TermWeights {
  S rkl, jsd, skl, srkl, tvd, beta, lambda;
};
template <class S>
ATTAR_INLINE S term_slope(const TermWeights<S>& w, S p, S log_p, S t, S log_t, S& weighted, S& plain) {
  const S least = S(sizeof(S) == 4 ? 1e-37 : 1e-300);
  S f = 0;
  if (w.rkl != 0) {
    const S ratio = log_p - log_t;
    f += w.rkl * ratio;
    weighted += w.rkl * p * ratio;
    plain += p * ratio;
  }
  if (w.jsd != 0) {
    const S m = w.beta * t + (1 - w.beta) * p;
    const S log_m = vector_log(m > least ? m : least), scale = 1 / (w.beta * (1 - w.beta));
    const S value = scale * (w.beta * t * (log_t - log_m) + (1 - w.beta) * p * (log_p - log_m));
    f += w.jsd * scale * (1 - w.beta) * (log_p - log_m);
    weighted += w.jsd * value;
    plain += value;
  }
  if (w.skl != 0) {
    const S m = w.lambda * t + (1 - w.lambda) * p, safe = m > least ? m : least;
    const S value = t * (log_t - vector_log(safe));
    f -= w.skl * (1 - w.lambda) * t / safe;
    weighted += w.skl * value;
    plain += value;
  }
  if (w.srkl != 0) {
    const S m = w.lambda * p + (1 - w.lambda) * t, safe = m > least ? m : least;
    const S h = log_p - vector_log(safe);
    f += w.srkl * (h - w.lambda * p / safe);
    weighted += w.srkl * p * h;
    plain += p * h;
  }
  if (w.tvd != 0) {
    const S gap = p - t, size = gap < 0 ? -gap : gap;
    f += w.tvd * (gap > 0 ? S(0.5) : gap < 0 ? S(-0.5) : S(0));
    weighted += w.tvd * S(0.5) * size;
    plain += S(0.5) * size;
  }
  return f;
}

/// A whole distribution: live or dense.
template <class S>
ATTAR_INLINE void dense_row(LossRowJob<S>& job) {
  const double T = job.w.temperature;
  const int64_t n = job.n;
  S* z = job.z;
  S* y = job.y;
  if (job.softcap > 0) cap_row<S>(z, n, S(job.softcap));
  if (job.teacher_softcap > 0) cap_row<S>(y, n, S(job.teacher_softcap));
  const S top = row_maximum(z, n), top_y = row_maximum(y, n), scale = S(1 / T), scale_y = S(job.teacher_scale), least = S(kLeastLogProb);
  // y becomes the teacher's shifted exponent; sums of exp(y), of exp(y) (y - z / T) and of the student's exponentials.
  double sum_y = 0, cross = 0, sum_t = 0;
  for (int64_t begin = 0; begin < n; begin += kLossBlock) {
    const int64_t end = begin + kLossBlock < n ? begin + kLossBlock : n;
    S a = 0, b = 0, c = 0;
#pragma omp simd reduction(+ : a, b, c)
    for (int64_t j = begin; j < end; ++j) {
      const S raw = (y[j] - top_y) * scale_y, u = raw < least ? least : raw, x = (z[j] - top) * scale, e = vector_exp(u);
      y[j] = u;
      a += e;
      b += e * (u - x);
      c += vector_exp(x);
    }
    sum_y += a;
    cross += b;
    sum_t += c;
  }
  const double sum1 = T == 1 ? sum_t : sum_exp<S>(z, n, top, S(1));
  const double log_t = std::log(sum_t), log_y = std::log(sum_y);
  const S label = z[job.label];
  job.ce = std::log(sum1) - (label - top);
  double kl = job.w.kl;
  TermWeights<S> w{S(job.w.rkl), S(job.w.jsd), S(job.w.skl), S(job.w.srkl), S(job.w.tvd), S(job.w.beta), S(job.w.lambda)};
  int forward = job.w.kl != 0;
  if (job.w.jsd != 0 && job.w.beta == 0) kl += job.w.jsd, w.jsd = 0, ++forward;  // the limits of JSD / (beta (1 - beta))
  double extra_rkl = 0;
  if (job.w.jsd != 0 && job.w.beta == 1) extra_rkl = w.rkl != 0, w.rkl += S(job.w.jsd), w.jsd = 0;
  const bool more = w.rkl != 0 || w.jsd != 0 || w.skl != 0 || w.srkl != 0 || w.tvd != 0;
  const double kl_value = cross / sum_y - log_y + log_t;
  double weighted = kl * kl_value, plain = forward * kl_value, centre = 0;
  const S shift_p = S(log_t), shift_y = S(log_y);
  if (more) {
    double reverse = 0;
    for (int64_t begin = 0; begin < n; begin += kLossBlock) {
      const int64_t end = begin + kLossBlock < n ? begin + kLossBlock : n;
      S a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
      for (int64_t j = begin; j < end; ++j) {
        const S log_p = (z[j] - top) * scale - shift_p, log_q = y[j] - shift_y, p = vector_exp(log_p);
        S one = 0, two = 0;
        c += p * term_slope<S>(w, p, log_p, vector_exp(log_q), log_q, one, two);
        a += one;
        b += two;
        d += p * (log_p - log_q);
      }
      weighted += a;
      plain += b;
      centre += c;
      reverse += d;
    }
    plain += extra_rkl * reverse;
  }
  job.teacher = T * T * plain;
  job.loss = job.weight * (job.w.ce * job.ce + T * T * weighted);
  if (!job.gradients) return;
  const S inverse = job.softcap > 0 ? S(1 / job.softcap) : S(0), ce = S(job.weight * job.w.ce / sum1);
  const S slope = S(job.weight * T), level = S(kl - centre), force = S(kl);
  if (!more) {
    const S student = S(job.weight * T * kl / sum_t), teacher = S(job.weight * T * kl / sum_y);
    if (T == 1 || ce == 0) {
      const S both = T == 1 ? S(job.weight * (kl + job.w.ce) / sum_t) : student;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        const S u = z[j] * inverse;
        z[j] = (both * vector_exp((z[j] - top) * scale) - teacher * vector_exp(y[j])) * (1 - u * u);
      }
    } else {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        const S u = z[j] * inverse, x = z[j] - top;
        z[j] = (ce * vector_exp(x) + student * vector_exp(x * scale) - teacher * vector_exp(y[j])) * (1 - u * u);
      }
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const S u = z[j] * inverse, x = z[j] - top, log_p = x * scale - shift_p, log_q = y[j] - shift_y;
      const S p = vector_exp(log_p), t = vector_exp(log_q);
      S one = 0, two = 0;
      const S f = term_slope<S>(w, p, log_p, t, log_q, one, two);
      z[j] = (ce * vector_exp(x) + slope * (p * (f + level) - force * t)) * (1 - u * u);
    }
  }
  z[job.label] -= S(job.weight * job.w.ce * cap_slope(job, label));
}

template <class S>
ATTAR_INLINE void any_row(LossRowJob<S>& job) {
  if (job.y) {
    dense_row(job);
  } else if (job.k > 0 && job.has_tail) {
    tail_row(job);
  } else {
    gather_row(job);
  }
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))) void loss_row_avx512(LossRowJob<float>& job) { any_row(job); }
__attribute__((target("avx2"))) void loss_row_avx2(LossRowJob<float>& job) { any_row(job); }
#endif
void loss_row_portable(LossRowJob<float>& job) { any_row(job); }
void loss_row_double(LossRowJob<double>& job) { any_row(job); }

using FloatRow = void (*)(LossRowJob<float>&);
FloatRow pick_loss_row() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return loss_row_avx512;
  if (__builtin_cpu_supports("avx2")) return loss_row_avx2;
#endif
  return loss_row_portable;
}

template <class S>
LossValues run_rows(LossRows& rows, const LossWeights& weights, bool gradients, void (*row)(LossRowJob<S>&)) {
  const int64_t count = rows.logits.size(0), k = rows.ids.defined() ? rows.ids.size(1) : 0;
  LossValues values;
  values.loss = at::empty({count}, at::kDouble);
  values.teacher = at::empty({count}, at::kDouble);
  values.cross_entropy = at::empty({count}, at::kDouble);
  const at::Tensor labels = rows.labels.contiguous();
  const auto as_row_type = [&](const at::Tensor& t) { return t.defined() ? t.to(rows.logits.scalar_type()).contiguous() : t; };
  const at::Tensor ids = k ? rows.ids.to(at::kInt).contiguous() : at::Tensor();
  const at::Tensor probs = as_row_type(rows.probs), tail = as_row_type(rows.tail), row_weights = as_row_type(rows.row_weights);
  double* loss = values.loss.data_ptr<double>();
  double* teacher = values.teacher.data_ptr<double>();
  double* ce = values.cross_entropy.data_ptr<double>();
  bool twice = false;
#pragma omp parallel num_threads(at::get_num_threads()) reduction(|| : twice) if (count * rows.logits.size(1) > 16384)
  {
    std::vector<S> kept(static_cast<size_t>(k));
#pragma omp for schedule(static)
    for (int64_t r = 0; r < count; ++r) {
      LossRowJob<S> job;
      job.z = rows.logits.data_ptr<S>() + r * rows.logits.stride(0);
      job.y = rows.teacher.defined() ? rows.teacher.data_ptr<S>() + r * rows.teacher.stride(0) : nullptr;
      job.n = rows.logits.size(1);
      job.label = labels.data_ptr<int64_t>()[r];
      job.weight = row_weights.defined() ? row_weights.data_ptr<S>()[r] : 1.0;
      job.softcap = rows.softcap;
      job.teacher_softcap = rows.live ? rows.teacher_softcap : 0;
      job.teacher_scale = rows.live ? 1 / weights.temperature : 1;
      job.k = k;
      job.ids = k ? ids.data_ptr<int32_t>() + r * k : nullptr;
      job.probs = k ? probs.data_ptr<S>() + r * k : nullptr;
      job.has_tail = tail.defined();
      job.tail = tail.defined() ? tail.data_ptr<S>()[r] : 0;
      job.gradients = gradients;
      job.w = weights;
      job.kept = kept.data();
      row(job);
      loss[r] = job.loss;
      teacher[r] = job.teacher;
      ce[r] = job.ce;
      twice = twice || job.twice;
    }
  }
  check(!twice, "linear_loss: the teacher's ids of a position", "each id once", "one id twice");
  return values;
}

}  // namespace

LossValues loss_rows_cpu(LossRows& rows, const LossWeights& weights, bool gradients) {
  assert(rows.logits.stride(1) == 1 && (!rows.teacher.defined() || rows.teacher.stride(1) == 1));
  if (rows.logits.scalar_type() == at::kDouble) return run_rows<double>(rows, weights, gradients, loss_row_double);
  static const FloatRow row = pick_loss_row();
  return run_rows<float>(rows, weights, gradients, row);
}

}  // namespace attar
