#include "train/trainer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <optional>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "train/adamw.h"
#include "train/ema.h"
#include "train/snapshot.h"
#include "train/throughput.h"
#include "train/train_log.h"

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

void check_config(const TrainConfig& c) {
  check(c.steps > 0 && c.batch > 0 && c.accumulate > 0, "train", "steps, batch and accumulate above 0");
  check(c.schedule == "cosine" || c.schedule == "wsd" || c.schedule == "constant", "train.schedule", "cosine, wsd or constant", c.schedule);
  check(c.result == "last" || c.result == "best", "train.result", "last or best", c.result);
  check(c.snapshot_every > 0, "train.snapshot_every", "1 or more", std::to_string(c.snapshot_every));
}

/// Every number summed over the ranks.
void sum_over_ranks(ProcessGroup& group, std::vector<double>& numbers) {
  at::Tensor sums = at::tensor(numbers, at::kDouble);
  group.all_reduce_sum(sums);
  std::copy_n(sums.const_data_ptr<double>(), numbers.size(), numbers.begin());
}

}  // namespace

TrainResult train(std::vector<TrainParameter> parameters, const LossFunction& loss, Source& source, ProcessGroup& group, const TrainerOptions& options) {
  const TrainConfig& config = options.config;
  check_config(config);
  const fs::path file = options.folder / "snapshot.safetensors", best_file = options.folder / "best.safetensors";
  AdamW optimizer(parameters, config, group);
  Ema ema(parameters, config.ema);
  TrainResult result;
  result.steps = config.steps;
  double best = INFINITY;
  int64_t first = 0;
  Snapshot snapshot;
  if (read_snapshot(file, options.fingerprint, snapshot)) {
    optimizer.load(snapshot);
    ema.load(snapshot);
    first = get<int64_t>(snapshot.state, "step", file.string());
    source.seek(get<int64_t>(snapshot.state, "position", file.string()));
    best = snapshot.state["best"].is_number() ? snapshot.state["best"].get<double>() : INFINITY;
    result.best_step = get<int64_t>(snapshot.state, "best_step", file.string());
    log_info(str(options.label, ": goes on at step ", first, " of ", config.steps));
  }
  snapshot = {};
  std::optional<TrainLog> log;
  if (group.rank() == 0) log.emplace(options.folder, first + 1);
  const int64_t eval_every = config.eval_every > 0 ? config.eval_every : std::max<int64_t>(1, config.steps / 10);
  const auto started = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(); };

  const auto save = [&](const fs::path& place, int64_t step) {
    Snapshot out;
    optimizer.save(out);
    ema.save(out);
    out.state = {{"fingerprint", options.fingerprint}, {"step", step}, {"position", source.position()},
                 {"best", std::isfinite(best) ? Json(best) : Json()}, {"best_step", result.best_step}};
    if (group.rank() == 0) write_snapshot(place, out);
    group.barrier();
  };

  Progress progress(options.label, config.steps, "steps");
  progress.start_at(first);
  Throughput throughput(options.device, options.bf16, group.size());
  double tail_loss = 0, tail_tokens = 0;
  Batch batch;
  for (int64_t step = first; step < config.steps; ++step) {
    throughput.begin();
    if (options.before_step) options.before_step(step);
    optimizer.zero();
    double tokens = 0, sum = 0, positions = 0, flops = 0;
    std::vector<std::pair<std::string, double>> sums;
    for (int64_t part = 0; part < config.accumulate; ++part) {
      source.next(batch);
      StepLoss step_loss = loss(batch);
      const double value = step_loss.sum.item<double>();
      check(std::isfinite(value), str(options.label, ": the loss at step ", step + 1), "a finite number", std::to_string(value),
            "the snapshot before it is kept; try a lower learning rate (train.lr)");
      if (part + 1 == config.accumulate) optimizer.arm();
      step_loss.sum.backward();
      tokens += step_loss.tokens;
      sum += value;
      positions += step_loss.positions > 0 ? step_loss.positions : step_loss.tokens;
      flops += step_loss.flops;
      for (size_t i = 0; i < step_loss.sums.size(); ++i) {
        if (sums.size() <= i) sums.push_back({step_loss.sums[i].first, 0});
        sums[i].second += step_loss.sums[i].second;
      }
    }
    // All ranks stop at one step: whose signal it was does not matter.
    std::vector<double> shared = {tokens, sum, positions, flops, stop_signal() != 0 ? 1.0 : 0.0};
    for (const auto& [name, value] : sums) shared.push_back(value);
    sum_over_ranks(group, shared);
    tokens = shared[0], sum = shared[1], positions = shared[2], flops = shared[3];
    const bool stopping = shared[4] > 0;
    for (size_t i = 0; i < sums.size(); ++i) sums[i].second = shared[i + 5];
    tokens = std::max(tokens, 1.0);
    const double lr = config.lr * schedule_factor(config, step);
    const double norm = optimizer.step(lr, tokens);
    check(std::isfinite(norm), str(options.label, ": the gradient's norm at step ", step + 1), "a finite number", std::to_string(norm),
          "the snapshot before it is kept; try a lower learning rate (train.lr)");
    if (options.after_step) options.after_step(step + 1);
    ema.update(step + 1);
    throughput.end(positions, flops);
    result.tokens += tokens;
    if (step >= config.steps - std::max<int64_t>(1, config.steps / 10)) tail_loss += sum, tail_tokens += tokens;

    Json line = {{"step", step + 1}, {"loss", sum / tokens}, {"lr", lr}, {"norm", norm}, {"tokens", tokens}, {"seconds", elapsed()}};
    for (const auto& [name, value] : sums) line[name] = value / tokens;
    throughput.add_to(line);
    const bool last = step + 1 == config.steps;
    if (options.evaluate && ((step + 1) % eval_every == 0 || last)) {
      ema.swap();
      result.held_out = options.evaluate();
      ema.swap();
      for (const auto& [name, value] : result.held_out) {
        line["held_out_" + name] = value;
        if (name == "loss" && value < best) {
          best = value;
          result.best_step = step + 1;
          if (config.result == "best") save(best_file, step + 1);
        }
      }
    }
    if (log) log->write(line);
    progress.update(step + 1, str("loss ", sum / tokens, ", ", throughput.words()));
    if (!last && ((step + 1) % config.snapshot_every == 0 || stopping)) save(file, step + 1);
    if (stopping && !last) throw Stopped{stop_signal() != 0 ? stop_signal() : SIGTERM};
  }
  optimizer.zero();
  if (config.result == "best" && read_snapshot(best_file, options.fingerprint, snapshot)) {
    optimizer.load(snapshot);
    ema.load(snapshot);
  }
  ema.swap();
  result.loss = tail_tokens > 0 ? tail_loss / tail_tokens : 0;
  result.seconds = elapsed();
  throughput.add_to(result);
  progress.finish(str("loss ", result.loss, ", ", throughput.words()));
  return result;
}

}  // namespace attar
