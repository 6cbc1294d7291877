#include "teacher/capture.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/signals.h"
#include "teacher/cache.h"
#include "teacher/cache_files.h"
#include "teacher/capture_shards.h"

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

Json capture(const Decoder& teacher, const TokenRows& rows, const CacheIdentity& identity, int64_t batch, int64_t shard_rows,
             const fs::path& folder, const ShardRange& range) {
  check(batch >= 1, "batch of a capture", "1 or more", str(batch));
  check(identity.vocab >= 1 && identity.vocab <= teacher.spec().vocab, "vocabulary of a capture", str("1 to the teacher's ", teacher.spec().vocab),
        str(identity.vocab));
  const at::NoGradGuard no_grad;
  const at::Device device = teacher.output_weight().device();
  CaptureShards shards(folder, identity, rows.rows(), shard_rows, range);
  CacheWriter& writer = shards.writer();
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
  return shards.write([&](int64_t first, int64_t end) {
    writer.begin_shard(first);
    PendingStates pending;
    pending.limit = std::clamp<int64_t>((int64_t{32} << 20) / teacher.spec().vocab, 64, 1024);
    for (int64_t begin = first; begin < end; begin += batch) {
      stop_if_asked();
      std::vector<int64_t> numbers;
      for (int64_t row = begin; row < std::min(begin + batch, end); ++row) numbers.push_back(row);
      Batch now = make_batch(rows, numbers);
      const at::Tensor labels = now.at("labels").flatten(), valid = labels.ne(-100).nonzero().squeeze(1), there = valid.to(device);
      now.columns.at("ids") = now.at("ids").to(device);
      shards.shard_progress(begin + static_cast<int64_t>(numbers.size()) - first);
      if (valid.size(0) == 0) continue;
      const at::Tensor hidden = watched.hidden(tokens_of(now));
      const int64_t T = hidden.size(1);
      pending.states.push_back(hidden.reshape({-1, hidden.size(2)}).index_select(0, there));
      pending.labels.push_back(labels.index_select(0, valid));
      for (int64_t i = 0; i < valid.size(0); ++i) pending.rows.push_back(numbers[static_cast<size_t>(valid.data_ptr<int64_t>()[i] / T)]);
      for (const int64_t layer : identity.codec.hidden_layers) {
        const at::Tensor& states = seen.at(str("model.layers.", layer - 1, ".output"));
        writer.add_hidden(layer, states.reshape({-1, states.size(-1)}).index_select(0, there).to(at::kCPU));
      }
      pending.flush_full(teacher, writer);
    }
    pending.flush(teacher, writer, static_cast<int64_t>(pending.rows.size()));
    writer.end_shard();
  });
}

LogitTargets live_targets(const Decoder& teacher, const Batch& batch, std::map<int64_t, at::Tensor>* states) {
  return live_targets(teacher, tokens_of(batch), states);
}

LogitTargets live_targets(const Decoder& teacher, const TokenBatch& tokens, std::map<int64_t, at::Tensor>* states) {
  const at::NoGradGuard no_grad;
  LogitTargets targets;
  targets.kind = LogitTargets::Kind::live;
  const at::Tensor hidden = teacher.hidden(tokens, nullptr, states);
  targets.hidden = hidden.reshape({-1, hidden.size(-1)});
  targets.weight = teacher.output_weight();
  targets.softcap = teacher.spec().logit_softcap;
  return targets;
}

std::vector<double> live_row_losses(const Decoder& teacher, const TokenRows& rows, int64_t first, int64_t end, int64_t vocab) {
  const at::NoGradGuard no_grad;
  const at::Device device = teacher.output_weight().device();
  const int64_t limit = std::clamp<int64_t>((int64_t{32} << 20) / vocab, 64, 1024);
  std::vector<double> sums(static_cast<size_t>(end - first)), counts(sums.size());
  Progress progress("teacher's loss", end - first, "rows");
  for (int64_t begin = first; begin < end; begin += kScoredRows) {
    stop_if_asked();
    std::vector<int64_t> numbers;
    for (int64_t row = begin; row < std::min(begin + kScoredRows, end); ++row) numbers.push_back(row);
    Batch now = make_batch(rows, numbers);
    const at::Tensor labels = now.at("labels").flatten(), valid = labels.ne(-100).nonzero().squeeze(1);
    const int64_t T = now.at("ids").size(1);
    for (auto& [name, tensor] : now.columns) tensor = tensor.to(device);
    const at::Tensor hidden = teacher.hidden(tokens_of(now));
    const at::Tensor states = hidden.reshape({-1, hidden.size(2)});
    for (int64_t done = 0; done < valid.size(0); done += limit) {
      const at::Tensor some = valid.narrow(0, done, std::min(limit, valid.size(0) - done)).contiguous();
      const at::Tensor logits = teacher.logits(states.index_select(0, some.to(device))).to(at::kFloat).narrow(1, 0, vocab);
      const at::Tensor wanted = labels.index_select(0, some).unsqueeze(1).to(device);
      const at::Tensor loss = at::log_softmax(logits, 1).gather(1, wanted).neg().to(at::kCPU, at::kDouble).contiguous();
      for (int64_t i = 0; i < some.size(0); ++i) {
        const auto row = static_cast<size_t>(numbers[static_cast<size_t>(some.const_data_ptr<int64_t>()[i] / T)] - first);
        sums[row] += loss.const_data_ptr<double>()[i];
        ++counts[row];
      }
    }
    progress.update(numbers.back() + 1 - first);
  }
  progress.finish();
  for (size_t row = 0; row < sums.size(); ++row) {
    if (counts[row] > 0) sums[row] /= counts[row];
    check(std::isfinite(sums[row]), str("the teacher's loss on row ", first + static_cast<int64_t>(row)), "a number", str(sums[row]),
          "the teacher gives no finite logits there");
  }
  return sums;
}

}  // namespace attar
