#pragma once
#include "kernels/loss_row_sparse.h"

namespace attar {

/// A whole distribution: live or dense.
template <class Team>
ATTAR_HOST_DEVICE void team_dense_row(TeamRow& row, Team& team) {
  AttarLossTerms w = row.job.terms;
  const double T = row.T;
  const int64_t n = row.n;
  float *z = row.z, *y = row.y;
  const bool live = row.job.teacher_live != 0;
  const float top = team_cap_and_top(z, n, float(row.job.softcap), team), label = z[row.label];
  const float top_y = team_cap_and_top(y, n, live ? float(row.job.teacher_softcap) : 0.0f, team), scale = float(1 / T), scale_y = live ? scale : 1.0f;
  const double sum_y = team_sum(n, team, [=](int64_t j) {
    const float raw = (y[j] - top_y) * scale_y;
    y[j] = raw < kTeamLeastLog ? kTeamLeastLog : raw;
    return vector_exp(y[j]);
  });
  const double cross = team_sum(n, team, [=](int64_t j) { return vector_exp(y[j]) * (y[j] - (z[j] - top) * scale); });
  const double sum_t = team_sum_exp(z, n, top, scale, team), sum1 = T == 1 ? sum_t : team_sum_exp(z, n, top, 1.0f, team);
  const double kl_value = cross / sum_y - log(sum_y) + log(sum_t);
  // JSD / (beta (1 - beta)) has forward and reverse KL as its limits.
  const bool forward_limit = w.jsd != 0 && w.beta == 0, reverse_limit = w.jsd != 0 && w.beta == 1;
  const double kl = w.kl + (forward_limit ? w.jsd : 0), limit = reverse_limit ? w.jsd : 0;
  if (forward_limit || reverse_limit) w.jsd = 0;
  const float log_t = float(log(sum_t)), log_y = float(log(sum_y));
  AttarLossTerms with_limit = w;
  with_limit.rkl += limit;
  double weighted = kl * kl_value, plain = ((w.kl != 0) + forward_limit) * kl_value, centre = 0;
  const bool more = with_limit.rkl != 0 || w.jsd != 0 || w.skl != 0 || w.srkl != 0 || w.tvd != 0;
  if (more) {
    double value = 0, unweighted = 0, twice = 0;
    for (int64_t j = team.rank; j < n; j += team.size) {
      const float log_p = (z[j] - top) * scale - log_t, log_q = y[j] - log_y, p = vector_exp(log_p);
      float one = 0, two = 0;
      centre += p * loss_term_slope(with_limit, p, log_p, vector_exp(log_q), log_q, one, two);
      value += one;
      unweighted += two;
      if (reverse_limit && w.rkl != 0) twice += p * (log_p - log_q);
    }
    weighted += team.sum(value);
    plain += team.sum(unweighted + twice);
    centre = team.sum(centre);
  }
  row.ce_value = log(sum1) - (label - top);
  row.teacher_value = T * T * plain;
  row.loss = row.weight * (w.ce * row.ce_value + T * T * weighted);
  if (!row.job.gradients) return;
  const float ce = float(row.weight * w.ce / sum1), step = float(row.weight * T), level = float(kl - centre), force = float(kl);
  for (int64_t j = team.rank; j < n; j += team.size) {
    const float x = z[j] - top, log_p = x * scale - log_t, log_q = y[j] - log_y, p = vector_exp(log_p), t = vector_exp(log_q);
    float one = 0, two = 0;
    const float slope = more ? loss_term_slope(with_limit, p, log_p, t, log_q, one, two) : 0.0f;
    z[j] = (ce * vector_exp(x) + step * (p * (slope + level) - force * t)) * row.slope(z[j]);
  }
  team.sync();
  if (team.rank == 0) z[row.label] -= float(row.weight * w.ce) * row.slope(label);
}

/// Row r of the job: its gradient and its three values.
template <class Team>
ATTAR_HOST_DEVICE void loss_row_of_team(const AttarLossRows& job, int64_t r, Team& team) {
  TeamRow row(job, r);
  if (row.y) {
    team_dense_row(row, team);
  } else if (row.k > 0 && job.tail) {
    team_tail_row(row, team);
  } else {
    team_gather_row(row, team);
  }
  if (team.rank != 0) return;
  job.loss[r] = row.loss;
  job.teacher_terms[r] = row.teacher_value;
  job.cross_entropy[r] = row.ce_value;
}

}  // namespace attar
