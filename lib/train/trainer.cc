#include "train/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <optional>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "train/adamw.h"
#include "train/ema.h"
#include "train/recorded_step.h"
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

NamedSum::NamedSum(std::string called, at::Tensor scalar) : name(std::move(called)), value(std::move(scalar)) {}
NamedSum::NamedSum(std::string called, double number) : name(std::move(called)), value(at::scalar_tensor(number, at::kDouble)) {}

namespace {

constexpr int64_t kDeviceLogEvery = 10;  ///< steps that a GPU works ahead before its numbers are read

void check_config(const TrainConfig& c) {
  check(c.steps > 0 && c.batch > 0 && c.accumulate > 0, "train", "steps, batch and accumulate above 0");
  check(c.schedule == "cosine" || c.schedule == "wsd" || c.schedule == "constant", "train.schedule", "cosine, wsd or constant", c.schedule);
  check(c.result == "last" || c.result == "best", "train.result", "last or best", c.result);
  check(c.snapshot_every > 0, "train.snapshot_every", "1 or more", std::to_string(c.snapshot_every));
  check(c.log_every >= 0, "train.log_every", "0 (1 on the CPU, 10 on CUDA) or more", std::to_string(c.log_every));
}

/// Every number summed over the ranks.
void sum_over_ranks(ProcessGroup& group, std::vector<double>& numbers) {
  at::Tensor sums = at::tensor(numbers, at::kDouble);
  group.all_reduce_sum(sums);
  std::copy_n(sums.const_data_ptr<double>(), numbers.size(), numbers.begin());
}

/// What happened since the log's last line. Numbers of the device stay there until they are read, all in one copy.
class Unread {
 public:
  explicit Unread(at::Device device) : options_(at::TensorOptions(at::kDouble).device(device)) {}

  void add(const StepLoss& loss) {
    const auto value = [&](const at::Tensor& t) { return t.detach().to(options_); };
    step_sum_ = step_sum_.defined() ? step_sum_ + value(loss.sum) : value(loss.sum);
    for (const NamedSum& sum : loss.sums) {
      const auto found = std::find_if(sums_.begin(), sums_.end(), [&](const NamedSum& s) { return s.name == sum.name; });
      if (found == sums_.end()) sums_.push_back({sum.name, value(sum.value)});
      else found->value = found->value + value(sum.value);
    }
  }
  /// Ends a step (from 0), whose gradient had this norm and which learned from so many tokens, all ranks together.
  void end_step(int64_t step, const at::Tensor& norm, double tokens, double positions, double flops) {
    if (steps_ == 0) loss_ = at::zeros({}, options_), bad_loss_ = at::zeros({}, options_), bad_norm_ = at::zeros({}, options_);
    loss_ = loss_ + step_sum_;
    norm_ = norm.to(options_);
    const double number = static_cast<double>(step + 1);
    const auto first_bad = [&](const at::Tensor& seen, const at::Tensor& now) {
      return at::where(seen.eq(0).logical_and_(now.isfinite().logical_not()), at::full_like(seen, number), seen);
    };
    bad_loss_ = first_bad(bad_loss_, step_sum_);
    bad_norm_ = first_bad(bad_norm_, norm_);
    step_sum_ = at::Tensor();
    ++steps_;
    tokens_ += tokens, positions_ += positions, flops_ += flops;
  }

  struct Numbers {
    double loss = 0, norm = 0, bad_loss = 0, bad_norm = 0, tokens = 0, positions = 0, flops = 0;
    std::vector<std::pair<std::string, double>> sums;
  };
  /// Waits for the device. Every rank at the same step.
  Numbers read(ProcessGroup& group) {
    std::vector<at::Tensor> scalars{loss_, norm_, bad_loss_, bad_norm_};
    for (const NamedSum& sum : sums_) scalars.push_back(sum.value);
    const at::Tensor here = at::stack(scalars).to(at::kCPU);
    const double* number = here.const_data_ptr<double>();
    std::vector<double> shared{number[0]};
    for (int64_t i = 4; i < here.size(0); ++i) shared.push_back(number[i]);
    sum_over_ranks(group, shared);
    Numbers out{shared[0], number[1], number[2], number[3], tokens_, positions_, flops_, {}};
    for (size_t i = 0; i < sums_.size(); ++i) out.sums.push_back({sums_[i].name, shared[1 + i]});
    *this = Unread(options_.device());
    return out;
  }
  int64_t steps() const { return steps_; }

 private:
  at::TensorOptions options_;
  at::Tensor step_sum_, loss_, norm_, bad_loss_, bad_norm_;  ///< the last two: number of the first step with one that is not finite, or 0
  std::vector<NamedSum> sums_;
  int64_t steps_ = 0;
  double tokens_ = 0, positions_ = 0, flops_ = 0;
};

}  // namespace

TrainResult train(std::vector<TrainParameter> parameters, const LossFunction& loss, Source& source, ProcessGroup& group,
                  const TrainerOptions& options) {
  const TrainConfig& config = options.config;
  check_config(config);
  const fs::path file = options.folder / "snapshot.safetensors", best_file = options.folder / "best.safetensors";
  std::optional<GraphStream> stream;
  if (options.fixed) stream.emplace(options.fixed->device);
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
  const int64_t log_every = config.log_every > 0 ? config.log_every : options.device.is_cpu() ? 1 : kDeviceLogEvery;
  const int64_t tail = config.steps - std::max<int64_t>(1, config.steps / 10);
  double tail_loss = 0, tail_tokens = 0;
  Unread unread(options.device);
  std::optional<RecordedStep> recorded;
  if (options.fixed) {
    assert(group.size() == 1);
    recorded.emplace(*options.fixed, parameters);
    optimizer.record(options.fixed->make_graph, options.fixed->must);
  }
  Batch batch;
  for (int64_t step = first; step < config.steps; ++step) {
    if (unread.steps() == 0) throughput.begin();
    if (options.before_step) options.before_step(step);
    if (recorded) recorded->zero();
    else optimizer.zero();
    double tokens = 0, positions = 0, flops = 0;
    for (int64_t part = 0; part < config.accumulate; ++part) {
      source.next(batch);
      const StepLoss step_loss = recorded ? recorded->run(batch) : loss(batch);
      if (!recorded) {
        if (part + 1 == config.accumulate) optimizer.arm();
        step_loss.sum.backward();
      }
      tokens += step_loss.tokens;
      positions += step_loss.positions > 0 ? step_loss.positions : step_loss.tokens;
      flops += step_loss.flops;
      unread.add(step_loss);
    }
    // All ranks stop at one step: whose signal it was does not matter.
    std::vector<double> shared = {tokens, positions, flops, stop_signal() != 0 ? 1.0 : 0.0};
    sum_over_ranks(group, shared);
    tokens = std::max(shared[0], 1.0);
    const bool stopping = shared[3] > 0, last = step + 1 == config.steps;
    const double lr = config.lr * schedule_factor(config, step);
    const at::Tensor norm = optimizer.step(lr, tokens);
    if (options.after_step) options.after_step(step + 1);
    ema.update(step + 1);
    unread.end_step(step, norm, tokens, shared[1], shared[2]);

    const bool evaluating = options.evaluate && ((step + 1) % eval_every == 0 || last);
    const bool saving = !last && ((step + 1) % config.snapshot_every == 0 || stopping);
    if ((step + 1) % log_every != 0 && !evaluating && !saving && !last && !stopping && step + 1 != tail) continue;
    const Unread::Numbers now = unread.read(group);
    const auto finite = [&](const char* what, double bad, double value) {
      check(bad == 0, str(options.label, ": ", what, " at step ", static_cast<int64_t>(bad)), "a finite number",
            std::isfinite(value) ? "nan or inf" : std::to_string(value), "the snapshot before it is kept; try a lower learning rate (train.lr)");
    };
    // A loss that only another rank saw is in the sum, and its gradient in the norm.
    finite("the loss", now.bad_loss == 0 && now.bad_norm == 0 && !std::isfinite(now.loss) ? static_cast<double>(step + 1) : now.bad_loss, now.loss);
    finite("the gradient's norm", now.bad_norm, now.norm);
    throughput.end(now.positions, now.flops);
    result.tokens += now.tokens;
    if (step >= tail) tail_loss += now.loss, tail_tokens += now.tokens;

    Json line = {{"step", step + 1}, {"loss", now.loss / now.tokens}, {"lr", lr}, {"norm", now.norm}, {"tokens", now.tokens}, {"seconds", elapsed()}};
    for (const auto& [name, value] : now.sums) line[name] = value / now.tokens;
    throughput.add_to(line);
    if (evaluating) {
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
    progress.update(step + 1, str("loss ", now.loss / now.tokens, ", ", throughput.words()));
    if (saving) save(file, step + 1);
    if (stopping && !last) throw Stopped{stop_signal() != 0 ? stop_signal() : SIGTERM};
  }
  optimizer.zero();
  if (recorded) result.replayed = recorded->replayed();
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
