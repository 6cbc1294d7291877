#pragma once
#include "kernels/cuda_part.h"
#include "kernels/decoder_math.h"

// One row of the linear loss by a team (kernels/decoder_math.h). Each member keeps to its own columns j = rank, rank + size, ...; specification:
// loss_formulas (linear_loss_cpu.cc). Sums run in float32 over at most kTeamRun values, then in float64.
namespace attar {

constexpr int kTeamRun = 64;
constexpr float kTeamLeastLog = -1e4f;

/// Sum over this member's columns of term(j), joined over the team.
template <class Team, class Term>
ATTAR_HOST_DEVICE double team_sum(int64_t n, Team& team, Term term) {
  double total = 0;
  for (int64_t j = team.rank; j < n;) {
    float part = 0;
    for (int i = 0; i < kTeamRun && j < n; ++i, j += team.size) part += term(j);
    total += part;
  }
  return team.sum(total);
}
template <class Team>
ATTAR_HOST_DEVICE double team_sum_exp(const float* z, int64_t n, float top, float scale, Team& team) {
  return team_sum(n, team, [=](int64_t j) { return vector_exp((z[j] - top) * scale); });
}
/// Soft cap in place (0: none), then the row's maximum.
template <class Team>
ATTAR_HOST_DEVICE float team_cap_and_top(float* z, int64_t n, float cap, Team& team) {
  const float inverse = cap > 0 ? 1 / cap : 0;
  float best = -INFINITY;
  for (int64_t j = team.rank; j < n; j += team.size) {
    if (cap > 0) z[j] = cap * vector_tanh(z[j] * inverse);
    best = z[j] > best ? z[j] : best;
  }
  return team.max(best);
}

/// What the terms beside forward KL say of one id: their derivative by p; `value` grows by the weighted term, `plain` by the unweighted.
ATTAR_INLINE float loss_term_slope(const AttarLossTerms& w, float p, float log_p, float t, float log_t, float& value, float& plain) {
  const float least = 1e-37f, beta = float(w.beta), lambda = float(w.lambda);
  const auto add = [&](double weight, float term) {
    value += float(weight) * term;
    plain += term;
  };
  float slope = 0;
  if (w.rkl != 0) {
    slope += float(w.rkl) * (log_p - log_t);
    add(w.rkl, p * (log_p - log_t));
  }
  if (w.jsd != 0) {
    const float mix = beta * t + (1 - beta) * p, log_mix = vector_log(mix > least ? mix : least), scale = 1 / (beta * (1 - beta));
    slope += float(w.jsd) * scale * (1 - beta) * (log_p - log_mix);
    add(w.jsd, scale * (beta * t * (log_t - log_mix) + (1 - beta) * p * (log_p - log_mix)));
  }
  if (w.skl != 0) {
    const float raw = lambda * t + (1 - lambda) * p, mix = raw > least ? raw : least;
    slope -= float(w.skl) * (1 - lambda) * t / mix;
    add(w.skl, t * (log_t - vector_log(mix)));
  }
  if (w.srkl != 0) {
    const float raw = lambda * p + (1 - lambda) * t, mix = raw > least ? raw : least, ratio = log_p - vector_log(mix);
    slope += float(w.srkl) * (ratio - lambda * p / mix);
    add(w.srkl, p * ratio);
  }
  if (w.tvd != 0) {
    const float gap = p - t;
    slope += float(w.tvd) * (gap > 0 ? 0.5f : gap < 0 ? -0.5f : 0.0f);
    add(w.tvd, 0.5f * fabsf(gap));
  }
  return slope;
}

/// One row's view of the job.
struct TeamRow {
  const AttarLossRows& job;
  float *z, *y, *kept;
  const int32_t* ids;
  const float* probs;
  int64_t n, k, label;
  double weight, T, tail, ce_value = 0, teacher_value = 0, loss = 0;

  ATTAR_HOST_DEVICE TeamRow(const AttarLossRows& rows, int64_t r)
      : job(rows), z(rows.logits + r * rows.logits_stride), y(rows.teacher ? rows.teacher + r * rows.teacher_stride : nullptr),
        kept(rows.ids ? rows.kept + r * rows.k : nullptr), ids(rows.ids ? rows.ids + r * rows.k : nullptr),
        probs(rows.ids ? rows.probs + r * rows.k : nullptr), n(rows.vocab), k(rows.ids ? rows.k : 0), label(rows.labels[r]),
        weight(rows.row_weights ? rows.row_weights[r] : 1.0), T(rows.terms.temperature), tail(rows.tail ? rows.tail[r] : 0) {}
  ATTAR_HOST_DEVICE float inverse_cap() const { return job.softcap > 0 ? float(1 / job.softcap) : 0.0f; }
  /// The soft cap's slope where its value is `capped`.
  ATTAR_HOST_DEVICE float slope(float capped) const {
    const float u = capped * inverse_cap();
    return 1 - u * u;
  }
  ATTAR_HOST_DEVICE bool first_of_its_id(int64_t i) const {
    for (int64_t j = 0; j < i; ++j)
      if (ids[j] == ids[i]) return false;
    return true;
  }
};

}  // namespace attar
