#pragma once
#include "kernels/loss_team.h"

namespace attar {

/// Labels alone, or with a sampled teacher: cross-entropy with both. An id may stand more than once.
template <class Team>
ATTAR_HOST_DEVICE void team_gather_row(TeamRow& row, Team& team) {
  const AttarLossTerms& w = row.job.terms;
  const double T = row.T;
  float* z = row.z;
  const float top = team_cap_and_top(z, row.n, float(row.job.softcap), team), label = z[row.label];
  const double sum1 = team_sum_exp(z, row.n, top, 1.0f, team), sum_t = row.k && T != 1 ? team_sum_exp(z, row.n, top, float(1 / T), team) : sum1;
  const double log_t = log(sum_t);
  row.ce_value = log(sum1) - (label - top);
  double mass = 0, value = 0;
  for (int64_t i = team.rank; i < row.k; i += team.size) {
    if (row.ids[i] < 0) continue;
    row.kept[i] = z[row.ids[i]];
    mass += row.probs[i];
    value -= row.probs[i] * ((row.kept[i] - top) / T - log_t);
  }
  mass = team.sum(mass);
  row.teacher_value = T * T * team.sum(value);
  row.loss = row.weight * (w.ce * row.ce_value + w.kl * row.teacher_value);
  if (!row.job.gradients) return;
  const float first = float(row.weight * w.ce / sum1), second = float(row.weight * w.kl * T * mass / sum_t), scale = float(1 / T);
  for (int64_t j = team.rank; j < row.n; j += team.size) {
    const float x = z[j] - top;
    z[j] = (first * vector_exp(x) + (second != 0 ? second * vector_exp(x * scale) : 0.0f)) * row.slope(z[j]);
  }
  team.sync();
  for (int64_t i = team.rank; i < row.k; i += team.size) {
    if (row.ids[i] < 0 || !row.first_of_its_id(i)) continue;
    double share = row.probs[i];
    for (int64_t j = i + 1; j < row.k; ++j)
      if (row.ids[j] == row.ids[i]) share += row.probs[j];
    z[row.ids[i]] -= float(row.weight * w.kl * T * share) * row.slope(row.kept[i]);
  }
  team.sync();
  if (team.rank == 0) z[row.label] -= float(row.weight * w.ce) * row.slope(label);
}

/// A top-k teacher whose tail is one bucket. Its ids are taken out of the row (-inf), so that the outside is summed by itself.
template <class Team>
ATTAR_HOST_DEVICE void team_tail_row(TeamRow& row, Team& team) {
  const AttarLossTerms& w = row.job.terms;
  const double T = row.T;
  float* z = row.z;
  team_cap_and_top(z, row.n, float(row.job.softcap), team);
  const float label = z[row.label];
  float top = -INFINITY;
  double mass = 0, there = 0;
  for (int64_t i = team.rank; i < row.k; i += team.size) {
    if (row.ids[i] < 0) continue;
    if (!row.first_of_its_id(i)) *row.job.twice = 1;
    row.kept[i] = z[row.ids[i]];
    top = row.kept[i] > top ? row.kept[i] : top;
    mass += row.probs[i];
    there += 1;
  }
  top = team.max(top);
  mass = team.sum(mass);
  there = team.sum(there);
  for (int64_t i = team.rank; i < row.k; i += team.size)
    if (row.ids[i] >= 0) z[row.ids[i]] = -INFINITY;
  team.sync();
  const bool outside = there < double(row.n);
  const float top_out = team_cap_and_top(z, row.n, 0.0f, team), shift = outside ? top_out : top;
  top = top_out > top ? top_out : top;
  const float scale = float(1 / T);
  const double sum_out = outside ? team_sum_exp(z, row.n, shift, scale, team) : 0, sum1_out = outside ? team_sum_exp(z, row.n, top, 1.0f, team) : 0;
  double inside = 0, inside1 = 0;
  for (int64_t i = team.rank; i < row.k; i += team.size) {
    if (row.ids[i] < 0) continue;
    inside += exp((row.kept[i] - top) / T);
    inside1 += exp(double(row.kept[i] - top));
  }
  inside = team.sum(inside);
  const double sum1 = sum1_out + team.sum(inside1), shrink = exp((shift - top) / T), sum_t = sum_out * shrink + inside, log_t = log(sum_t);
  const double tail = outside && there > 0 ? row.tail : 0;
  double value = 0;
  for (int64_t i = team.rank; i < row.k; i += team.size)
    if (row.ids[i] >= 0 && row.probs[i] > 0) value += row.probs[i] * (log(double(row.probs[i])) - ((row.kept[i] - top) / T - log_t));
  value = team.sum(value);
  if (tail > 0) value += tail * (log(tail) - (log(sum_out) + (shift - top) / T - log_t));
  row.ce_value = log(sum1) - (label - top);
  row.teacher_value = T * T * value;
  row.loss = row.weight * (w.ce * row.ce_value + w.kl * row.teacher_value);
  if (!row.job.gradients) return;
  const double kl = row.weight * w.kl * T, ce = row.weight * w.ce;
  const float first = float(ce / sum1), second = outside ? float(kl * (mass * shrink / sum_t - tail * inside / sum_t / sum_out)) : 0.0f;
  for (int64_t j = team.rank; j < row.n; j += team.size)
    z[j] = (first * vector_exp(z[j] - top) + second * vector_exp((z[j] - shift) * scale)) * row.slope(z[j]);
  team.sync();
  for (int64_t i = team.rank; i < row.k; i += team.size) {
    if (row.ids[i] < 0) continue;
    const double x = row.kept[i] - top, p = exp(x / T) / sum_t;
    z[row.ids[i]] = float(ce * exp(x) / sum1 + kl * ((mass + tail) * p - row.probs[i])) * row.slope(row.kept[i]);
  }
  team.sync();
  if (team.rank == 0) z[row.label] -= float(ce) * row.slope(label);
}

}  // namespace attar
