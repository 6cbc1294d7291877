#include "teacher/capture.h"

#include <ATen/ATen.h>

#include "base/log.h"
#include "base/signals.h"
#include "teacher/cache.h"
#include "teacher/cache_files.h"

namespace attar {
namespace {

TokenBatch tokens_of(const Batch& batch) {
  TokenBatch tokens;
  tokens.ids = batch.at("ids");
  if (batch.has("segments")) tokens.segments = batch.at("segments");
  if (batch.has("positions")) tokens.positions = batch.at("positions");
  return tokens;
}

/// Hidden states of learned positions wait here until there are enough for one product with the output matrix. How many come together depends on
/// the rows alone, not on the batch.
struct PendingStates {
  std::vector<at::Tensor> states, labels;
  std::vector<int64_t> rows;
  int64_t limit;

  void flush(const Decoder& teacher, CacheWriter& writer, int64_t count) {
    if (count == 0) return;
    const at::Tensor hidden = at::cat(states), label = at::cat(labels);
    const std::vector<int64_t> now(rows.begin(), rows.begin() + count);
    writer.add_logits(teacher.logits(hidden.narrow(0, 0, count)).to(at::kCPU, at::kFloat), label.narrow(0, 0, count), now);
    rows.erase(rows.begin(), rows.begin() + count);
    const int64_t left = hidden.size(0) - count;
    states = {hidden.narrow(0, count, left)};
    labels = {label.narrow(0, count, left)};
  }
  void flush_full(const Decoder& teacher, CacheWriter& writer) {
    while (static_cast<int64_t>(rows.size()) >= limit) flush(teacher, writer, limit);
  }
};

}  // namespace

int64_t rows_of_range(const ShardRange& range, int64_t rows, int64_t shard_rows) {
  const int64_t count = (rows + shard_rows - 1) / shard_rows;
  return std::min(rows, std::min(range.end, count) * shard_rows) - std::min(rows, range.begin * shard_rows);
}

Json capture(const Decoder& teacher, const TokenRows& rows, const CacheIdentity& identity, int64_t batch, int64_t shard_rows,
             const fs::path& folder, const ShardRange& range) {
  check(batch >= 1, "batch of a capture", "1 or more", str(batch));
  check(identity.vocab >= 1 && identity.vocab <= teacher.spec().vocab, "vocabulary of a capture", str("1 to the teacher's ", teacher.spec().vocab),
        str(identity.vocab));
  const at::NoGradGuard no_grad;
  const FolderLock lock(folder);
  remove_leftovers(folder);
  CacheWriter writer(folder, identity, rows.rows(), shard_rows);
  const std::vector<int64_t> missing = writer.missing(range);
  const int64_t wanted = rows_of_range(range, rows.rows(), shard_rows);
  Progress progress("capture", wanted, "rows");
  int64_t done = wanted;
  for (const int64_t first : missing) done -= std::min(shard_rows, rows.rows() - first);
  progress.start_at(done);
  // Outputs of layers are seen as they pass; a copy shares the weights.
  Decoder watched = teacher;
  std::map<std::string, at::Tensor> seen;
  if (!identity.codec.hidden_layers.empty()) {
    const auto layers = static_cast<int64_t>(teacher.spec().layers.size());
    check(identity.codec.hidden_layers.back() <= layers, "codec.hidden_layers", str("1 to the teacher's ", layers),
          str(identity.codec.hidden_layers.back()));
    for (const int64_t layer : identity.codec.hidden_layers) seen[str("model.layers.", layer - 1, ".output")];
    watched.set_observer([&seen](const std::string& name, const at::Tensor& value) {
      if (const auto place = seen.find(name); place != seen.end()) place->second = value;
    });
  }
  for (const int64_t first : missing) {
    writer.begin_shard(first);
    const int64_t end = std::min(first + shard_rows, rows.rows());
    PendingStates pending;
    pending.limit = std::clamp<int64_t>((int64_t{32} << 20) / teacher.spec().vocab, 64, 1024);
    for (int64_t begin = first; begin < end; begin += batch) {
      stop_if_asked();
      std::vector<int64_t> numbers;
      for (int64_t row = begin; row < std::min(begin + batch, end); ++row) numbers.push_back(row);
      const Batch now = make_batch(rows, numbers);
      const at::Tensor labels = now.at("labels").flatten(), valid = labels.ne(-100).nonzero().squeeze(1);
      done += static_cast<int64_t>(numbers.size());
      progress.update(done);
      if (valid.size(0) == 0) continue;
      const at::Tensor hidden = watched.hidden(tokens_of(now));
      const int64_t T = hidden.size(1);
      pending.states.push_back(hidden.reshape({-1, hidden.size(2)}).index_select(0, valid));
      pending.labels.push_back(labels.index_select(0, valid));
      for (int64_t i = 0; i < valid.size(0); ++i) pending.rows.push_back(numbers[static_cast<size_t>(valid.data_ptr<int64_t>()[i] / T)]);
      for (const int64_t layer : identity.codec.hidden_layers) {
        const at::Tensor& states = seen.at(str("model.layers.", layer - 1, ".output"));
        writer.add_hidden(layer, states.reshape({-1, states.size(-1)}).index_select(0, valid));
      }
      pending.flush_full(teacher, writer);
    }
    pending.flush(teacher, writer, static_cast<int64_t>(pending.rows.size()));
    writer.end_shard();
  }
  progress.finish();
  return range.whole() ? writer.finish() : writer.statistics();
}

LogitTargets live_targets(const Decoder& teacher, const Batch& batch, std::map<int64_t, at::Tensor>* states) {
  const at::NoGradGuard no_grad;
  LogitTargets targets;
  targets.kind = LogitTargets::Kind::live;
  const at::Tensor hidden = teacher.hidden(tokens_of(batch), nullptr, states);
  targets.hidden = hidden.reshape({-1, hidden.size(-1)});
  targets.weight = teacher.output_weight();
  targets.softcap = teacher.spec().logit_softcap;
  return targets;
}

}  // namespace attar
