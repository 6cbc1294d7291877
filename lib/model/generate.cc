#include "model/generate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"

namespace attar {
namespace {

/// Index of the largest value, the first of equals.
int64_t greedy_choice(const float* logits, int64_t count) {
  int64_t best = 0;
  for (int64_t i = 1; i < count; ++i)
    if (logits[i] > logits[best]) best = i;
  return best;
}

/// Drops all but the likeliest ids that together have the probability `top_p`: their logits become -infinity. Of equals the first stay.
void keep_likeliest(float* logits, int64_t count, double temperature, double top_p) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  const double highest = logits[order.front()];
  const auto mass = [&](int64_t id) { return std::exp((logits[id] - highest) / temperature); };
  double sum = 0, seen = 0;
  for (const int64_t id : order) sum += mass(id);
  for (const int64_t id : order) {
    const double own = mass(id);
    if (seen >= top_p * sum) logits[id] = -std::numeric_limits<float>::infinity();
    seen += own;
  }
}

/// Draws from softmax(logits / temperature); `uniform` in [0, 1).
int64_t drawn_choice(const float* logits, int64_t count, double temperature, double uniform) {
  const double highest = logits[greedy_choice(logits, count)];
  std::vector<double> share(static_cast<size_t>(count));
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += share[static_cast<size_t>(i)] = std::exp((logits[i] - highest) / temperature);
  double left = uniform * sum;
  for (int64_t i = 0; i < count; ++i) {
    left -= share[static_cast<size_t>(i)];
    if (left < 0) return i;
  }
  return greedy_choice(logits, count);
}

}  // namespace

std::vector<int32_t> generate(const Decoder& model, const std::vector<int32_t>& prompt, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& on_token) {
  if (prompt.empty()) fail("prompt", "at least one token", "none", "start from BOS");
  if (!(options.temperature >= 0)) fail("temperature", "0 or more", str(options.temperature));
  const at::NoGradGuard no_grad;
  const at::Device device = model.weights().begin()->second.device();
  std::vector<int32_t> made;
  KvCache cache;
  std::vector<int64_t> next(prompt.begin(), prompt.end());
  Rng rng(options.seed, stream_of("generate"));
  while (static_cast<int64_t>(made.size()) < options.max_tokens) {
    TokenBatch batch;
    batch.ids = at::tensor(at::ArrayRef<int64_t>(next)).unsqueeze(0).to(device);
    const at::Tensor hidden = model.hidden(batch, &cache);
    const at::Tensor logits = model.logits(hidden.select(1, hidden.size(1) - 1)).to(at::kCPU, at::kFloat).contiguous();
    const float* values = logits.const_data_ptr<float>();
    const int64_t count = logits.numel();
    const int64_t token = options.temperature > 0 ? drawn_choice(values, count, options.temperature, rng.uniform()) : greedy_choice(values, count);
    if (std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end()) break;
    made.push_back(static_cast<int32_t>(token));
    if (on_token && !on_token(static_cast<int32_t>(token))) break;
    next.assign(1, token);
  }
  return made;
}

namespace {

/// Texts that are still being written: row r of every tensor belongs to text `texts[r]`.
struct OpenTexts {
  std::vector<size_t> texts;
  at::Tensor padding;  ///< (B) int64 positions before the prompt that nobody looks at
  KvCache cache;

  /// The batch of the next ids (B, T); position t of row r is t - padding[r], counted from the cache's beginning.
  TokenBatch batch(const at::Tensor& ids) const {
    const int64_t first = cache.length(), T = ids.size(1);
    const at::Tensor key = at::arange(first + T, ids.options()).view({1, 1, -1});
    const at::Tensor query = at::arange(first, first + T, ids.options()).view({1, -1, 1});
    TokenBatch out;
    out.ids = ids;
    out.positions = (query.squeeze(2) - padding.unsqueeze(1)).clamp_min(0);
    out.mask = key.le(query).logical_and(key.ge(padding.view({-1, 1, 1})));
    return out;
  }
  /// Goes on with some rows only.
  void keep(const std::vector<int64_t>& rows) {
    const at::Tensor index = at::tensor(rows, at::kLong).to(padding.device());
    padding = padding.index_select(0, index);
    cache = cache.selected(index);
    std::vector<size_t> left;
    for (const int64_t row : rows) left.push_back(texts[static_cast<size_t>(row)]);
    texts = std::move(left);
  }
};

}  // namespace

std::vector<WrittenText> write_texts(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts, const std::vector<uint64_t>& streams,
                                     const WriteOptions& options) {
  const GenerateOptions& o = options.generate;
  if (!(o.temperature >= 0)) fail("temperature", "0 or more", str(o.temperature));
  if (!(options.top_p > 0 && options.top_p <= 1)) fail("top_p", "above 0, at most 1", str(options.top_p));
  assert(prompts.size() == streams.size());
  std::vector<WrittenText> out(prompts.size());
  if (prompts.empty()) return out;
  const at::NoGradGuard no_grad;
  const at::Device device = model.weights().begin()->second.device();
  size_t longest = 0;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) fail("prompt", "at least one token", "none", "start from BOS");
    longest = std::max(longest, prompt.size());
  }
  OpenTexts open;
  at::Tensor ids = at::zeros({static_cast<int64_t>(prompts.size()), static_cast<int64_t>(longest)}, at::kLong);
  std::vector<int64_t> padding;
  for (size_t i = 0; i < prompts.size(); ++i) {
    open.texts.push_back(i);
    padding.push_back(static_cast<int64_t>(longest - prompts[i].size()));
    std::copy(prompts[i].begin(), prompts[i].end(), ids[static_cast<int64_t>(i)].data_ptr<int64_t>() + padding.back());
  }
  open.padding = at::tensor(padding, at::kLong).to(device);
  ids = ids.to(device);
  for (int64_t number = 0; number < o.max_tokens && !open.texts.empty(); ++number) {
    const at::Tensor hidden = model.hidden(open.batch(ids), &open.cache);
    at::Tensor logits = model.logits(hidden.select(1, hidden.size(1) - 1)).to(at::kCPU, at::kFloat);
    if (options.vocab > 0 && options.vocab < logits.size(1)) logits = logits.narrow(1, 0, options.vocab);
    logits = logits.contiguous();
    const auto rows = static_cast<int64_t>(open.texts.size()), count = logits.size(1);
    std::vector<int64_t> chosen(open.texts.size());
    const at::Tensor normal = options.log_probs ? at::logsumexp(logits.to(at::kDouble), {1}) : at::Tensor();
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      float* values = logits.data_ptr<float>() + row * count;
      if (o.temperature > 0 && options.top_p < 1) keep_likeliest(values, count, o.temperature, options.top_p);
      Rng rng(o.seed, streams[open.texts[static_cast<size_t>(row)]], static_cast<uint64_t>(number));
      chosen[static_cast<size_t>(row)] = o.temperature > 0 ? drawn_choice(values, count, o.temperature, rng.uniform()) : greedy_choice(values, count);
      if (options.log_probs)  // what was chosen was kept by top_p, with its value
        out[open.texts[static_cast<size_t>(row)]].log_prob += values[chosen[static_cast<size_t>(row)]] - normal.const_data_ptr<double>()[row];
    }
    std::vector<int64_t> going, next;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t token = chosen[static_cast<size_t>(row)];
      WrittenText& text = out[open.texts[static_cast<size_t>(row)]];
      if (std::find(o.stop.begin(), o.stop.end(), token) != o.stop.end()) {
        text.finished = true;
        continue;
      }
      text.ids.push_back(static_cast<int32_t>(token));
      if (options.ended && options.ended(open.texts[static_cast<size_t>(row)], text.ids)) {
        text.finished = true;
        continue;
      }
      going.push_back(row);
      next.push_back(token);
    }
    if (static_cast<int64_t>(going.size()) < rows) open.keep(going);
    ids = at::tensor(next, at::kLong).unsqueeze(1).to(device);
  }
  return out;
}

}  // namespace attar
