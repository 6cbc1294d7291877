#include "data/mix.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/rng.h"

namespace attar {

std::vector<double> mix_shares(const std::vector<int64_t>& rows, const std::vector<std::optional<double>>& weights, double temperature) {
  check(temperature > 0, "data.mix_temperature", "above 0", str(temperature));
  const auto given = static_cast<size_t>(std::count_if(weights.begin(), weights.end(), [](const auto& weight) { return weight.has_value(); }));
  check(given == 0 || given == weights.size(), "data.mix", "a weight in every part, or in none",
        str(given, " of ", weights.size(), " parts with one"));
  std::vector<double> shares;
  double sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (given > 0)
      check(*weights[i] > 0 && std::isfinite(*weights[i]), str("data.mix[", i, "].weight"), "above 0", str(*weights[i]), "leave the part out");
    shares.push_back(given > 0 ? *weights[i] : std::pow(static_cast<double>(rows[i]), 1 / temperature));
    sum += shares.back();
  }
  for (double& share : shares) share /= sum;
  return shares;
}

RowDraws::RowDraws(std::vector<DrawPart> parts, uint64_t seed, int64_t warm_draws, double from)
    : seed_(seed), warm_draws_(warm_draws), from_(from) {
  check(from > 0 && from <= 1, "data.curriculum.from", "above 0, at most 1", str(from));
  check(!parts.empty(), "parts of the data", "one at least", "none");
  for (DrawPart& part : parts) {
    check(!part.rows.empty(), "rows of a part of the data", "one at least", "none");
    parts_.push_back({.rows = std::move(part.rows), .order = {}, .share = part.share});
  }
}

/// 0 to kLevels - 1 during the warm-up, kLevels after it.
int64_t RowDraws::level() const { return drawn_ < warm_draws_ ? drawn_ * kLevels / warm_draws_ : kLevels; }

/// The part that is furthest behind its share, the first of equals.
RowDraws::Part& RowDraws::choose() {
  size_t best = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].credit += parts_[i].share;
    if (parts_[i].credit > parts_[best].credit) best = i;
  }
  Part& part = parts_[best];
  part.credit -= 1;
  if (const int64_t now = level(); now != part.level) {
    part.level = now;
    part.drawn = 0;
  }
  ++part.drawn;
  ++drawn_;
  return part;
}

int64_t RowDraws::next() {
  Part& part = choose();
  const auto count = static_cast<double>(part.rows.size());
  const double open = from_ + (1 - from_) * static_cast<double>(part.level) / kLevels;
  const int64_t opened = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(open * count)));
  const int64_t rows = part.level == kLevels ? static_cast<int64_t>(part.rows.size()) : opened;
  const int64_t epoch = (part.drawn - 1) / rows;
  if (part.order_level != part.level || part.epoch != epoch) {
    const uint64_t stream = stream_of(str("part ", &part - parts_.data(), " level ", part.level));
    part.order = permutation(rows, seed_, stream + static_cast<uint64_t>(epoch));
    part.order_level = part.level;
    part.epoch = epoch;
  }
  return part.rows[static_cast<size_t>(part.order[static_cast<size_t>((part.drawn - 1) % rows)])];
}

void RowDraws::seek(int64_t draw) {
  check(draw >= 0, "position of a source", "0 or more", str(draw));
  if (draw < drawn_) {
    drawn_ = 0;
    for (Part& part : parts_) part.credit = 0, part.level = 0, part.drawn = 0;
  }
  while (drawn_ < draw) choose();
}

MixSource::MixSource(const TokenRows& rows, RowDraws draws, int64_t batch, int64_t rank, int64_t ranks)
    : rows_(rows), draws_(std::move(draws)), batch_(batch), rank_(rank), ranks_(ranks) {
  check(batch > 0, "train.batch", "1 or more", str(batch));
  check(ranks > 0 && rank >= 0 && rank < ranks, "rank of a source", "0 to ranks-1", str(rank, " of ", ranks));
  check(batch % ranks == 0, "train.batch", str("a multiple of the ", ranks, " ranks"), str(batch), "each rank takes an equal part");
}

void MixSource::next(Batch& batch) {
  const int64_t share = batch_ / ranks_;
  std::vector<int64_t> numbers;
  for (int64_t at = 0; at < batch_; ++at) {
    const int64_t row = draws_.next();
    if (at / share == rank_) numbers.push_back(row);
  }
  batch = make_batch(rows_, numbers);
  ++position_;
}

void MixSource::seek(int64_t position) {
  check(position >= 0, "position of a source", "0 or more", str(position));
  draws_.seek(position * batch_);
  position_ = position;
}

}  // namespace attar
