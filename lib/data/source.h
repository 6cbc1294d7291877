#pragma once
#include <map>
#include <string>
#include <vector>

#include "data/rows.h"

namespace attar {

/// Named tensors of one step. Always there: ids (B, T) int64, labels (B, T) int64 (next token to be predicted from this position, -100: none),
/// segments (B, T) int32, prompt (B, T) bool (the label is part of a prompt), rows (B) int64 numbers of the rows. Wrappers add columns (a teacher's
/// signal).
struct Batch {
  std::map<std::string, at::Tensor> columns;
  const at::Tensor& at(const std::string& name) const;  ///< assert-like Error if missing
  bool has(const std::string& name) const { return columns.count(name) > 0; }
};

/// Batches without end, from any position. What wraps a source adds columns or changes the order.
class Source {
 public:
  virtual ~Source() = default;
  virtual void next(Batch& batch) = 0;
  virtual int64_t position() const = 0;       ///< batches given so far
  virtual void seek(int64_t position) = 0;    ///< the next batch is that one again, bit for bit
};

/// Rows in a fresh seeded order every epoch; `batch` rows are shared out over the ranks in equal parts, so that a position
/// means the same rows for any number of them. Parts are cut to their longest row, rounded up to 8.
class RowSource : public Source {
 public:
  RowSource(const TokenRows& rows, int64_t batch, uint64_t seed, bool shuffle = true, int64_t rank = 0, int64_t ranks = 1);
  void next(Batch& batch) override;
  int64_t position() const override { return position_; }
  void seek(int64_t position) override;
  int64_t batches_per_epoch() const;

 private:
  const TokenRows& rows_;
  int64_t batch_, rank_, ranks_, position_ = 0, epoch_ = -1;
  uint64_t seed_;
  bool shuffle_;
  std::vector<int64_t> order_;
};

/// The batch of the given rows, in that order.
Batch make_batch(const TokenRows& rows, const std::vector<int64_t>& numbers);

}  // namespace attar
