#include "data/source.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "base/rng.h"

namespace attar {

const at::Tensor& Batch::at(const std::string& name) const {
  const auto found = columns.find(name);
  if (found != columns.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [column, tensor] : columns) known.push_back(column);
  fail("column '" + name + "' of a batch", "to be there", "nothing", nearest_hint(name, known));
}

RowSource::RowSource(const TokenRows& rows, int64_t batch, uint64_t seed, bool shuffle, int64_t rank, int64_t ranks)
    : rows_(rows), batch_(batch), rank_(rank), ranks_(ranks), seed_(seed), shuffle_(shuffle) {
  check(rows.rows() > 0, "rows of data", "one at least", "none");
  check(batch > 0, "train.batch", "1 or more", str(batch));
  check(batch % std::max<int64_t>(ranks, 1) == 0, "train.batch", str("a multiple of the ", ranks, " ranks"), str(batch),
        "each rank takes an equal part");
  check(ranks > 0 && rank >= 0 && rank < ranks, "rank of a source", "0 to ranks-1", str(rank, " of ", ranks));
}

void RowSource::next(Batch& batch) {
  const int64_t count = rows_.rows(), share = batch_ / ranks_, begin = position_ * batch_ + rank_ * share;
  std::vector<int64_t> numbers;
  for (int64_t at = begin; at < begin + share; ++at) {
    const int64_t epoch = at / count, place = at % count;
    if (shuffle_ && epoch != epoch_) {
      order_ = permutation(count, seed_, stream_of("epoch") + static_cast<uint64_t>(epoch));
      epoch_ = epoch;
    }
    numbers.push_back(shuffle_ ? order_[static_cast<size_t>(place)] : place);
  }
  batch = make_batch(rows_, numbers);
  ++position_;
}

void RowSource::seek(int64_t position) {
  check(position >= 0, "position of a source", "0 or more", str(position));
  position_ = position;
}

int64_t RowSource::batches_per_epoch() const { return (rows_.rows() + batch_ - 1) / batch_; }

Batch make_batch(const TokenRows& rows, const std::vector<int64_t>& numbers) {
  check(!numbers.empty(), "a batch", "one row at least", "none");
  const auto [least, most] = std::minmax_element(numbers.begin(), numbers.end());
  check(*least >= 0 && *most < rows.rows(), "rows of a batch", "numbers below " + str(rows.rows()), str(*least, " to ", *most));
  const at::Tensor index = at::tensor(numbers, at::kLong);
  const int64_t longest = rows.lengths.index_select(0, index).max().item<int64_t>();
  const int64_t width = std::min(rows.seq(), (longest + 7) / 8 * 8);
  const auto part = [&](const at::Tensor& table) { return table.slice(1, 0, width).index_select(0, index); };
  const at::Tensor ids = part(rows.ids).to(at::kLong), segments = part(rows.segments), learn = part(rows.learn);
  at::Tensor labels = at::full_like(ids, -100), prompt = at::zeros_like(ids, at::kBool);
  if (width > 1) {
    const at::Tensor after = segments.slice(1, 1);
    const at::Tensor wanted = after.eq(segments.slice(1, 0, width - 1)).logical_and(after.ge(0)).logical_and(learn.slice(1, 1).to(at::kBool));
    labels.slice(1, 0, width - 1).copy_(at::where(wanted, ids.slice(1, 1), at::scalar_tensor(-100, at::kLong)));
    prompt.slice(1, 0, width - 1).copy_(wanted.logical_and(learn.slice(1, 1).eq(kLearnPrompt)));
  }
  Batch out;
  out.columns = {{"ids", ids}, {"labels", labels}, {"segments", segments}, {"prompt", prompt}, {"rows", index}};
  return out;
}

}  // namespace attar
