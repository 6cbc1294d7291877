#include "train/trainer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "device/device.h"
#include "report/run_log.h"
#include "train/snapshot.h"

namespace attar {

double schedule_factor(const TrainConfig& c, int64_t step) {
  const double total = static_cast<double>(std::max<int64_t>(c.steps, 1));
  const double warm = static_cast<double>(std::min(c.warmup, c.steps));
  const double s = static_cast<double>(step) + 1;
  if (s <= warm) return s / warm;
  if (c.schedule == "constant") return 1;
  if (c.schedule == "wsd") {
    const double begin = total * (1 - c.decay);
    if (s <= begin) return 1;
    return 1 - (1 - c.min_lr) * (s - begin) / std::max(total - begin, 1.0);
  }
  const double done = (s - warm) / std::max(total - warm, 1.0);
  return c.min_lr + (1 - c.min_lr) * 0.5 * (1 + std::cos(M_PI * std::min(done, 1.0)));
}

namespace {

/// AdamW's moments and the two groups of parameters (with and without weight decay) that the fused operation takes.
class AdamW {
 public:
  AdamW(const std::vector<TrainParameter>& parameters, const TrainConfig& config) : config_(config) {
    for (const TrainParameter& p : parameters) {
      Group& group = groups_[p.decay ? 0 : 1];
      group.names.push_back(p.name);
      group.weights.push_back(p.tensor);
      group.first.push_back(at::zeros_like(p.tensor));
      group.second.push_back(at::zeros_like(p.tensor));
      group.steps.push_back(at::zeros({}, p.tensor.options().dtype(at::kFloat)));
    }
  }

  /// Divides gradients by `tokens`, clips, steps. Returns the norm before clipping.
  double step(double lr, double tokens) {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> all;
    for (Group& group : groups_) {
      group.gradients.clear();
      for (at::Tensor& weight : group.weights) {
        if (!weight.grad().defined()) weight.mutable_grad() = at::zeros_like(weight);
        group.gradients.push_back(weight.grad());
        all.push_back(weight.grad());
      }
    }
    // One norm per tensor, summed in a fixed order in double: the same bits on every run.
    double squares = 0;
    for (const at::Tensor& g : all) {
      const double norm = at::linalg_vector_norm(g).item<double>();
      squares += norm * norm;
    }
    const double norm = std::sqrt(squares) / tokens;
    double scale = 1 / tokens;
    if (config_.clip > 0 && norm > config_.clip) scale *= config_.clip / (norm + 1e-6);
    at::_foreach_mul_(all, scale);
    for (size_t i = 0; i < 2; ++i) {
      Group& g = groups_[i];
      if (g.weights.empty()) continue;
      at::_foreach_add_(g.steps, 1);
      at::_fused_adamw_(g.weights, g.gradients, g.first, g.second, {}, g.steps, lr, config_.beta1, config_.beta2,
                        i == 0 ? config_.weight_decay : 0.0, 1e-8, false, false);
    }
    return norm;
  }

  void zero() {
    for (Group& group : groups_)
      for (at::Tensor& weight : group.weights) weight.mutable_grad() = at::Tensor();
  }

  void save(Snapshot& snapshot) const {
    each([&](const std::string& name, const at::Tensor& tensor) { snapshot.tensors[name] = tensor; });
  }
  void load(const Snapshot& snapshot) {
    at::NoGradGuard no_grad;
    each([&](const std::string& name, const at::Tensor& tensor) {
      const auto found = snapshot.tensors.find(name);
      check(found != snapshot.tensors.end() && found->second.sizes() == tensor.sizes(), "the training's snapshot", "tensor '" + name + "'",
            "none of that shape", "remove it to start again");
      tensor.copy_(found->second);
    });
  }

 private:
  struct Group {
    std::vector<std::string> names;
    std::vector<at::Tensor> weights, gradients, first, second, steps;
  };
  template <class Visit>
  void each(const Visit& visit) const {
    for (const Group& g : groups_)
      for (size_t i = 0; i < g.names.size(); ++i) {
        visit("weight." + g.names[i], g.weights[i]);
        visit("first." + g.names[i], g.first[i]);
        visit("second." + g.names[i], g.second[i]);
        visit("step." + g.names[i], g.steps[i]);
      }
  }
  TrainConfig config_;
  Group groups_[2];
};

void check_config(const TrainConfig& c) {
  check(c.steps > 0 && c.batch > 0 && c.accumulate > 0, "train", "steps, batch and accumulate above 0");
  check(c.schedule == "cosine" || c.schedule == "wsd" || c.schedule == "constant", "train.schedule", "cosine, wsd or constant", c.schedule);
  check(c.result == "last" || c.result == "best", "train.result", "last or best", c.result);
  check(c.snapshot_every > 0, "train.snapshot_every", "1 or more", std::to_string(c.snapshot_every));
}

/// Adds up gradients over ranks in one flat buffer of fixed order.
void reduce_gradients(const std::vector<TrainParameter>& parameters, ProcessGroup& group) {
  if (group.size() == 1) return;
  std::vector<at::Tensor> flat;
  for (const TrainParameter& p : parameters)
    flat.push_back((p.tensor.grad().defined() ? p.tensor.grad() : at::zeros_like(p.tensor)).reshape({-1}));
  at::Tensor buffer = at::cat(flat);
  group.all_reduce_sum(buffer);
  int64_t begin = 0;
  for (const TrainParameter& p : parameters) {
    at::Tensor tensor = p.tensor;
    tensor.mutable_grad() = buffer.narrow(0, begin, tensor.numel()).view(tensor.sizes()).clone();
    begin += tensor.numel();
  }
}

}  // namespace

TrainResult train(std::vector<TrainParameter> parameters, const LossFunction& loss, Source& source, ProcessGroup& group, const TrainerOptions& options) {
  const TrainConfig& config = options.config;
  check_config(config);
  const fs::path file = options.folder / "snapshot.safetensors", best_file = options.folder / "best.safetensors";
  AdamW optimizer(parameters, config);
  TrainResult result;
  result.steps = config.steps;
  double best = INFINITY;
  int64_t first = 0;
  Snapshot snapshot;
  if (read_snapshot(file, options.fingerprint, snapshot)) {
    optimizer.load(snapshot);
    first = get<int64_t>(snapshot.state, "step", file.string());
    source.seek(get<int64_t>(snapshot.state, "position", file.string()));
    best = snapshot.state["best"].is_number() ? snapshot.state["best"].get<double>() : INFINITY;
    result.best_step = get<int64_t>(snapshot.state, "best_step", file.string());
    log_info(str(options.label, ": goes on at step ", first, " of ", config.steps));
  }
  snapshot = {};
  RunLog log(options.folder / "log.jsonl", first + 1);
  const int64_t eval_every = config.eval_every > 0 ? config.eval_every : std::max<int64_t>(1, config.steps / 10);
  const auto started = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(); };

  const auto save = [&](const fs::path& place, int64_t step) {
    Snapshot out;
    optimizer.save(out);
    out.state = {{"fingerprint", options.fingerprint}, {"step", step}, {"position", source.position()},
                 {"best", std::isfinite(best) ? Json(best) : Json()}, {"best_step", result.best_step}};
    if (group.rank() == 0) write_snapshot(place, out);
    group.barrier();
  };

  Progress progress(options.label, config.steps, "steps");
  progress.start_at(first);
  double tail_loss = 0, tail_tokens = 0;
  Batch batch;
  for (int64_t step = first; step < config.steps; ++step) {
    optimizer.zero();
    double tokens = 0, sum = 0;
    std::vector<std::pair<std::string, double>> sums;
    for (int64_t part = 0; part < config.accumulate; ++part) {
      source.next(batch);
      StepLoss step_loss = loss(batch);
      const double value = step_loss.sum.item<double>();
      check(std::isfinite(value), str(options.label, ": the loss at step ", step + 1), "a finite number", std::to_string(value),
            "the snapshot before it is kept; try a lower learning rate (train.lr)");
      step_loss.sum.backward();
      tokens += step_loss.tokens;
      sum += value;
      for (size_t i = 0; i < step_loss.sums.size(); ++i) {
        if (sums.size() <= i) sums.push_back({step_loss.sums[i].first, 0});
        sums[i].second += step_loss.sums[i].second;
      }
    }
    if (group.size() > 1) {
      at::Tensor totals = at::tensor({tokens, sum}, at::kDouble);
      group.all_reduce_sum(totals);
      tokens = totals[0].item<double>(), sum = totals[1].item<double>();
      reduce_gradients(parameters, group);
    }
    tokens = std::max(tokens, 1.0);
    const double lr = config.lr * schedule_factor(config, step);
    const double norm = optimizer.step(lr, tokens);
    check(std::isfinite(norm), str(options.label, ": the gradient's norm at step ", step + 1), "a finite number", std::to_string(norm),
          "the snapshot before it is kept; try a lower learning rate (train.lr)");
    if (options.after_step) options.after_step(step + 1);
    result.tokens += tokens;
    if (step >= config.steps - std::max<int64_t>(1, config.steps / 10)) tail_loss += sum, tail_tokens += tokens;

    Json line = {{"step", step + 1}, {"loss", sum / tokens}, {"lr", lr}, {"norm", norm}, {"tokens", tokens}, {"seconds", elapsed()}};
    for (const auto& [name, value] : sums) line[name] = value / tokens;
    const bool last = step + 1 == config.steps;
    if (options.evaluate && ((step + 1) % eval_every == 0 || last)) {
      result.held_out = options.evaluate();
      for (const auto& [name, value] : result.held_out) {
        line["held_out_" + name] = value;
        if (name == "loss" && value < best) {
          best = value;
          result.best_step = step + 1;
          if (config.result == "best") save(best_file, step + 1);
        }
      }
    }
    if (group.rank() == 0) log.write(line);
    progress.update(step + 1, str("loss ", sum / tokens));
    const bool stopping = stop_signal() != 0;
    if (!last && ((step + 1) % config.snapshot_every == 0 || stopping)) save(file, step + 1);
    if (stopping && !last) stop_if_asked();
  }
  optimizer.zero();
  if (config.result == "best" && read_snapshot(best_file, options.fingerprint, snapshot)) optimizer.load(snapshot);
  result.loss = tail_tokens > 0 ? tail_loss / tail_tokens : 0;
  result.seconds = elapsed();
  progress.finish(str("loss ", result.loss));
  return result;
}

}  // namespace attar
