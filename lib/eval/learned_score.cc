#include "eval/learned_score.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"
#include "base/signals.h"

namespace attar {
namespace {

constexpr double kStrengths[] = {1000, 100, 10, 1, 0.1};
constexpr int64_t kFolds = 5, kLeastRows = 20, kMostSteps = 50;

/// Weights (r) and intercept of rows x (n, r) against y (n): the minimum of sum log(1 + exp(-+z)) + l2 / 2 |w|^2.
struct Logistic {
  at::Tensor weights;
  double bias = 0;
};

Logistic fit_logistic(const at::Tensor& x, const at::Tensor& y, double l2) {
  const int64_t r = x.size(1);
  const at::Tensor rows = at::cat({x, at::ones({x.size(0), 1}, at::kDouble)}, 1);
  at::Tensor penalty = at::full({r + 1}, l2, at::kDouble);
  // A whisper on the intercept too: Newton's matrix stays regular where a fold holds one class.
  penalty[r] = 1e-6;
  at::Tensor at_now = at::zeros({r + 1}, at::kDouble);
  const auto cost = [&](const at::Tensor& w) {
    return (at::softplus(rows.mv(w)) - y * rows.mv(w)).sum().item<double>() + 0.5 * (penalty * w * w).sum().item<double>();
  };
  double before = cost(at_now);
  for (int64_t step = 0; step < kMostSteps; ++step) {
    const at::Tensor p = at::sigmoid(rows.mv(at_now));
    const at::Tensor gradient = rows.t().mv(p - y) + penalty * at_now;
    const at::Tensor curvature = rows.t().mm(rows * (p * (1 - p)).unsqueeze(1)) + at::diag(penalty);
    at::Tensor move = at::linalg_solve(curvature, gradient);
    // Halved until it helps: far from the minimum a whole step may overshoot.
    double after = cost(at_now - move);
    for (int64_t half = 0; half < 30 && !(after <= before); ++half) move = move / 2, after = cost(at_now - move);
    if (!(after <= before)) break;
    at_now = at_now - move;
    const bool still = before - after <= 1e-12 * (1 + std::abs(before));
    before = after;
    if (still) break;
  }
  return {at_now.slice(0, 0, r).clone(), at_now[r].item<double>()};
}

double log_loss(const Logistic& model, const at::Tensor& x, const at::Tensor& y) {
  const at::Tensor z = x.mv(model.weights) + model.bias;
  return (at::softplus(z) - y * z).sum().item<double>();
}

}  // namespace

Json LearnedScore::to_json() const {
  return {{"of", of}, {"fitted_rows", fitted_rows}, {"l2", l2}, {"log_loss", log_loss}, {"weights", weights}, {"bias", bias}};
}

LearnedScore LearnedScore::from_json(const Json& value, const std::string& name) {
  check(value.is_object(), name, "a learned score", to_line(value).substr(0, 60));
  LearnedScore out;
  out.of = get<std::string>(value, "of", name);
  check(out.of == "last" || out.of == "mean", name + ": of", "last or mean", out.of);
  out.weights = get<std::vector<double>>(value, "weights", name);
  out.bias = get<double>(value, "bias", name);
  for (const double w : out.weights) check(std::isfinite(w), name + ": weights", "finite numbers", "another");
  check(!out.weights.empty() && std::isfinite(out.bias), name, "weights and a bias", "none");
  return out;
}

at::Tensor prompt_states(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts, const std::string& of, int64_t batch_tokens) {
  const at::NoGradGuard no_grad;
  check(of == "last" || of == "mean", "learned_score", "last, mean, none or a router.json", of);
  const at::Device device = model.weights().begin()->second.device();
  const int64_t context = model.spec().context;
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto length = [&](size_t i) {
    const auto all = static_cast<int64_t>(prompts[i].size());
    return context > 0 ? std::min(all, context) : all;
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return length(a) > length(b); });
  at::Tensor out = at::zeros({static_cast<int64_t>(prompts.size()), model.spec().hidden}, at::kDouble);
  for (size_t done = 0; done < order.size();) {
    const int64_t width = length(order[done]);
    check(width > 0, str("prompt ", order[done]), "one token at least", "none");
    const size_t many = std::min(order.size() - done, static_cast<size_t>(std::max<int64_t>(1, batch_tokens / width)));
    at::Tensor ids = at::zeros({static_cast<int64_t>(many), width}, at::kLong),
               segments = at::full({static_cast<int64_t>(many), width}, -1, at::kInt);
    for (size_t i = 0; i < many; ++i) {
      const auto& prompt = prompts[order[done + i]];
      const int64_t n = length(order[done + i]);
      check(n > 0, str("prompt ", order[done + i]), "one token at least", "none");
      std::copy(prompt.end() - n, prompt.end(), ids[static_cast<int64_t>(i)].data_ptr<int64_t>());
      segments[static_cast<int64_t>(i)].slice(0, 0, n).fill_(0);
    }
    const at::Tensor hidden = model.hidden({ids.to(device), segments.to(device), {}, {}}).cpu().to(at::kDouble);
    for (size_t i = 0; i < many; ++i) {
      const at::Tensor states = hidden[static_cast<int64_t>(i)].slice(0, 0, length(order[done + i]));
      out[static_cast<int64_t>(order[done + i])].copy_(of == "last" ? states[-1] : states.mean(0));
    }
    done += many;
    stop_if_asked();
  }
  return out;
}

LearnedScore fit_learned_score(const at::Tensor& states, const std::vector<double>& correct, const std::string& of, uint64_t seed) {
  const at::NoGradGuard no_grad;
  const int64_t n = states.size(0);
  check(n == static_cast<int64_t>(correct.size()), "rows to learn a score from", str(n), str(correct.size()));
  check(n >= kLeastRows, "rows to learn a score from", str(kLeastRows, " at least"), str(n), "evaluate on more test rows");
  const at::Tensor y = at::tensor(correct, at::kDouble), mean = states.mean(0);
  at::Tensor deviation = states.std(0, false);
  deviation = at::where(deviation.gt(1e-12), deviation, at::ones_like(deviation));
  const at::Tensor x = (states - mean) / deviation;
  // The minimum lies in the span of the rows: with x^T = q z^T, w = q u.
  const auto [q, upper] = at::linalg_qr(x.t());
  const at::Tensor z = upper.t().contiguous();

  const auto order = permutation(n, seed, stream_of("folds of a learned score"));
  LearnedScore out;
  out.of = of, out.fitted_rows = n;
  double least = INFINITY;
  for (const double l2 : kStrengths) {
    double loss = 0;
    for (int64_t fold = 0; fold < kFolds; ++fold) {
      std::vector<int64_t> in, apart;
      for (int64_t i = 0; i < n; ++i) (i % kFolds == fold ? apart : in).push_back(order[static_cast<size_t>(i)]);
      const at::Tensor learn = at::tensor(in, at::kLong), judge = at::tensor(apart, at::kLong);
      loss += log_loss(fit_logistic(z.index_select(0, learn), y.index_select(0, learn), l2), z.index_select(0, judge), y.index_select(0, judge));
    }
    if (loss < least) least = loss, out.l2 = l2;
  }
  out.log_loss = least / static_cast<double>(n);
  const double right = y.sum().item<double>();
  at::Tensor weights = at::zeros({states.size(1)}, at::kDouble);
  if (right == 0 || right == static_cast<double>(n)) {
    out.bias = std::log((right + 0.5) / (static_cast<double>(n) - right + 0.5));
  } else {
    const Logistic fitted = fit_logistic(z, y, out.l2);
    weights = q.mv(fitted.weights) / deviation;
    out.bias = fitted.bias - weights.dot(mean).item<double>();
  }
  weights = weights.contiguous();
  out.weights.assign(weights.const_data_ptr<double>(), weights.const_data_ptr<double>() + weights.numel());
  return out;
}

std::vector<double> learned_scores(const LearnedScore& score, const at::Tensor& states) {
  const auto width = static_cast<int64_t>(score.weights.size());
  check(states.size(1) == width, "hidden states for a learned score", str(width, " wide, as those it was learned on"), str(states.size(1)));
  const at::Tensor shares = at::sigmoid(states.mv(at::tensor(score.weights, at::kDouble)) + score.bias).contiguous();
  return {shares.const_data_ptr<double>(), shares.const_data_ptr<double>() + shares.numel()};
}

}  // namespace attar
