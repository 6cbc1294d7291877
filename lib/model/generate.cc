#include "model/generate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

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

}  // namespace attar
