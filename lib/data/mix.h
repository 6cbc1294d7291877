#pragma once
#include <optional>
#include <vector>

#include "data/source.h"

namespace attar {

/// Rows that are drawn from together, and their share of all draws.
struct DrawPart {
  std::vector<int64_t> rows;  ///< numbers; from easy to hard where there is a warm-up
  double share = 1;           ///< of all draws; the parts' shares sum to 1
};

/// Shares of a mixture's parts, summing to 1: as their weights, or, where no part has one, as rows^(1 / temperature). Error if some parts have a
/// weight and others none, a weight is not above 0, or the temperature is not.
std::vector<double> mix_shares(const std::vector<int64_t>& rows, const std::vector<std::optional<double>>& weights, double temperature);

/// Row numbers without end, from any draw. After any number of draws each part has been drawn as often as its share says, give or take less than
/// one draw a part; inside a part rows come in a fresh seeded order, each once before any comes again. The first `warm_draws` take a part's first
/// rows only: `from` of them at the beginning, then more in equal steps until all are open.
class RowDraws {
 public:
  static constexpr int64_t kLevels = 16;  ///< steps by which a warm-up opens rows
  /// Error if a part has no rows, or `from` is not in (0, 1].
  RowDraws(std::vector<DrawPart> parts, uint64_t seed, int64_t warm_draws = 0, double from = 1);
  int64_t next();
  int64_t drawn() const { return drawn_; }
  /// The next draw is number `draw` again. What lies before it is counted through, a few nanoseconds each.
  void seek(int64_t draw);

 private:
  struct Part {
    std::vector<int64_t> rows, order;
    double share = 0, credit = 0;
    int64_t level = 0, drawn = 0;    ///< draws at this level
    int64_t order_level = -1, epoch = -1;  ///< of `order`
  };
  int64_t level() const;
  Part& choose();
  std::vector<Part> parts_;
  uint64_t seed_;
  int64_t warm_draws_, drawn_ = 0;
  double from_;
};

/// Batches of drawn rows. Like RowSource, `batch` rows are shared out over the ranks in equal parts: a position means the same rows for any number.
class MixSource : public Source {
 public:
  MixSource(const TokenRows& rows, RowDraws draws, int64_t batch, int64_t rank = 0, int64_t ranks = 1);
  void next(Batch& batch) override;
  int64_t position() const override { return position_; }
  void seek(int64_t position) override;

 private:
  const TokenRows& rows_;
  RowDraws draws_;
  int64_t batch_, rank_, ranks_, position_ = 0;
};

}  // namespace attar
