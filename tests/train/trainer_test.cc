#include "train/trainer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "data_path.h"
#include "device/peak_rate.h"
#include "formats/event_file.h"
#include "report/run_log.h"
#include "train/snapshot.h"

namespace attar {
namespace {

/// Batches whose numbers depend on their position alone.
class CountingSource : public Source {
 public:
  void next(Batch& batch) override {
    batch.columns["x"] = at::sin(at::arange(8, at::kFloat) + static_cast<double>(position_++));
  }
  int64_t position() const override { return position_; }
  void seek(int64_t position) override { position_ = position; }

 private:
  int64_t position_ = 0;
};

struct TinyProblem {
  at::Tensor weight = at::full({2, 4}, 0.5, at::kFloat), bias = at::zeros({2}, at::kFloat);
  CountingSource source;
  TinyProblem() { weight.requires_grad_(true), bias.requires_grad_(true); }
  std::vector<TrainParameter> parameters() { return {{"weight", weight, true}, {"bias", bias, false}}; }
  StepLoss loss(const Batch& batch) {
    const at::Tensor x = batch.at("x").view({2, 4});
    const at::Tensor y = at::mm(x, weight.t()) + bias;
    return {(y - 1).square().sum(), 4.0, {{"abs", (y - 1).abs().sum().item<double>()}}};
  }
};

TrainerOptions options_in(const fs::path& folder, int64_t steps) {
  TrainerOptions options;
  options.config.steps = steps, options.config.warmup = 2, options.config.lr = 0.05, options.config.snapshot_every = 4;
  options.folder = folder;
  options.fingerprint = "f";
  return options;
}

TEST(Schedule, RisesThenFalls) {
  TrainConfig c;
  c.steps = 100, c.warmup = 10, c.min_lr = 0.1;
  EXPECT_DOUBLE_EQ(schedule_factor(c, 0), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(c, 9), 1.0);
  EXPECT_NEAR(schedule_factor(c, 99), 0.1, 1e-12);
  EXPECT_NEAR(schedule_factor(c, 54), 0.55, 1e-12);
  c.schedule = "wsd", c.decay = 0.2;
  EXPECT_DOUBLE_EQ(schedule_factor(c, 79), 1.0);
  EXPECT_NEAR(schedule_factor(c, 89), 0.55, 1e-12);
  EXPECT_NEAR(schedule_factor(c, 99), 0.1, 1e-12);
}

/// One step against the formula: gradient of the mean, clipped, decoupled weight decay, bias-corrected moments.
TEST(Trainer, StepIsAdamW) {
  TestFolder folder;
  TinyProblem p;
  const at::Tensor w0 = p.weight.detach().clone().to(at::kDouble);
  auto options = options_in(folder.path(), 1);
  options.config.warmup = 0, options.config.schedule = "constant", options.config.clip = 0.3;
  CountingSource same;
  Batch batch;
  same.next(batch);
  const at::Tensor x = batch.at("x").view({2, 4}).to(at::kDouble);
  const at::Tensor y = at::mm(x, w0.t());
  at::Tensor gw = at::mm((2 * (y - 1)).t(), x) / 4, gb = (2 * (y - 1)).sum(0) / 4;
  const double norm = std::sqrt((gw.square().sum() + gb.square().sum()).item<double>());
  ASSERT_GT(norm, 0.3);
  gw = gw * (0.3 / (norm + 1e-6));
  const at::Tensor step = gw / (gw.abs() + 1e-8);  // first step: m/sqrt(v) is the sign, up to epsilon
  const at::Tensor expected = w0 * (1 - 0.05 * options.config.weight_decay) - 0.05 * step;
  train(p.parameters(), [&](const Batch& b) { return p.loss(b); }, p.source, *single_process(), options);
  EXPECT_LT((p.weight.detach().to(at::kDouble) - expected).abs().max().item<double>(), 1e-5);
}

TEST(Trainer, ResumedEndsWithTheSameBits) {
  TestFolder folder;
  TinyProblem straight;
  make_folder(folder / "a"), make_folder(folder / "b");
  train(straight.parameters(), [&](const Batch& b) { return straight.loss(b); }, straight.source, *single_process(), options_in(folder / "a", 11));

  int64_t calls = 0;
  TinyProblem first;
  EXPECT_THROW(train(first.parameters(),
                     [&](const Batch& b) -> StepLoss {
                       if (++calls == 7) fail("pulled the plug");
                       return first.loss(b);
                     },
                     first.source, *single_process(), options_in(folder / "b", 11)),
               Error);
  TinyProblem second;
  calls = 0;
  train(second.parameters(), [&](const Batch& b) { ++calls; return second.loss(b); }, second.source, *single_process(), options_in(folder / "b", 11));
  EXPECT_EQ(calls, 7) << "steps 5 to 11 are left after the snapshot at step 4";
  EXPECT_TRUE(at::equal(straight.weight, second.weight));
  EXPECT_TRUE(at::equal(straight.bias, second.bias));
  const auto log = read_run_log(folder / "b" / "log.jsonl");
  ASSERT_EQ(log.size(), 11u);
  for (size_t i = 0; i < log.size(); ++i) EXPECT_EQ(log[i]["step"], i + 1);
  // TensorBoard's events are the log's: each step once, though steps 5 and 6 were done twice.
  std::string events = event_file_head(log[0]["time"].get<double>());
  for (const Json& line : log) {
    std::vector<std::pair<std::string, double>> scalars;
    for (const auto& [name, value] : line.items())
      if (name != "step" && name != "time") scalars.push_back({name, value.get<double>()});
    events += event_record(line["time"].get<double>(), line["step"].get<int64_t>(), scalars);
  }
  // The head's time is that of the run's beginning where no line was kept.
  EXPECT_EQ(read_file(folder / "b" / kEventFileName), events);
}

TEST(Trainer, SaysHowFastAndAgainstWhat) {
  TestFolder folder;
  TinyProblem p;
  constexpr double kFlops = 1e6;
  const TrainResult result = train(p.parameters(), [&](const Batch& b) {
    StepLoss loss = p.loss(b);
    loss.positions = 50, loss.flops = kFlops;
    return loss;
  }, p.source, *single_process(), options_in(folder.path(), 4));
  const auto log = read_run_log(folder / "log.jsonl");
  ASSERT_EQ(log.size(), 4u);
  EXPECT_GT(result.peak_flops, 1e9);
  EXPECT_GE(peak_rate(at::kCPU, false).flops, result.peak_flops) << "the best so far in this process";
  double seconds = 0, peak = 0;
  for (const Json& line : log) {
    // Both are of the same seconds.
    const double of_step = 50 / line["tokens_per_s"].get<double>();
    const double now = kFlops / of_step / line["mfu"].get<double>();
    EXPECT_GE(now, peak * (1 - 1e-6)) << "it never falls";
    peak = now;
    EXPECT_GT(line["peak_bytes"].get<int64_t>(), 1 << 20);
    seconds += of_step;
  }
  EXPECT_NEAR(peak, result.peak_flops, 1e-6 * peak);
  EXPECT_NEAR(result.tokens_per_s, 4 * 50 / seconds, 1e-6 * result.tokens_per_s);
  EXPECT_NE(result.peak_flops_from.find("measured on this machine"), std::string::npos) << result.peak_flops_from;
  EXPECT_EQ(known_bf16_rate("NVIDIA H200"), 989.4e12);
  EXPECT_EQ(known_bf16_rate("a card of its own"), 0);
}

TEST(Trainer, AccumulationEqualsOneBigBatch) {
  TestFolder folder;
  make_folder(folder / "a"), make_folder(folder / "b");
  TinyProblem parts, whole;
  auto options = options_in(folder / "a", 3);
  options.config.accumulate = 2;
  train(parts.parameters(), [&](const Batch& b) { return parts.loss(b); }, parts.source, *single_process(), options);
  CountingSource source;
  train(whole.parameters(),
        [&](const Batch& b) {
          StepLoss one = whole.loss(b);
          Batch other;
          source.seek(whole.source.position());
          whole.source.next(other);
          StepLoss two = whole.loss(other);
          return StepLoss{one.sum + two.sum, one.tokens + two.tokens, {}};
        },
        whole.source, *single_process(), options_in(folder / "b", 3));
  EXPECT_LT((parts.weight - whole.weight).abs().max().item<double>(), 1e-6);
}

TEST(Trainer, NanStopsNamesTheStepAndKeepsTheSnapshot) {
  TestFolder folder;
  TinyProblem p;
  int64_t calls = 0;
  try {
    train(p.parameters(),
          [&](const Batch& b) {
            StepLoss loss = p.loss(b);
            if (++calls == 6) loss.sum = loss.sum * std::nan("");
            return loss;
          },
          p.source, *single_process(), options_in(folder.path(), 10));
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("step 6"), std::string::npos) << error.what();
  }
  Snapshot kept;
  ASSERT_TRUE(read_snapshot(folder / "snapshot.safetensors", "f", kept));
  EXPECT_EQ(kept.state["step"], 4);
  Snapshot other;
  EXPECT_FALSE(read_snapshot(folder / "snapshot.safetensors", "another run", other));
}

/// What a GPU does by itself: numbers are read when a line is due, and training is none the less the same.
TEST(Trainer, NumbersReadSeldomAreMeansAndChangeNothing) {
  TestFolder folder;
  make_folder(folder / "each"), make_folder(folder / "seldom");
  TinyProblem each, seldom;
  auto options = options_in(folder / "each", 12);
  options.config.snapshot_every = 100;
  const TrainResult one = train(each.parameters(), [&](const Batch& b) { return each.loss(b); }, each.source, *single_process(), options);
  options.folder = folder / "seldom", options.config.log_every = 5;
  const TrainResult other = train(seldom.parameters(), [&](const Batch& b) { return seldom.loss(b); }, seldom.source, *single_process(), options);
  EXPECT_TRUE(at::equal(each.weight, seldom.weight));
  EXPECT_TRUE(at::equal(each.bias, seldom.bias));
  EXPECT_NEAR(other.loss, one.loss, 1e-12);
  EXPECT_EQ(other.tokens, one.tokens);
  const auto lines = read_run_log(folder / "each" / "log.jsonl"), few = read_run_log(folder / "seldom" / "log.jsonl");
  ASSERT_EQ(lines.size(), 12u);
  // Every fifth step, where the last tenth begins, and the end.
  std::vector<int64_t> steps;
  for (const Json& line : few) steps.push_back(line["step"].get<int64_t>());
  ASSERT_EQ(steps, (std::vector<int64_t>{5, 10, 11, 12}));
  double sum = 0, abs = 0;
  for (size_t i = 0; i < 5; ++i) sum += lines[i]["loss"].get<double>() / 5, abs += lines[i]["abs"].get<double>() / 5;
  EXPECT_NEAR(few[0]["loss"].get<double>(), sum, 1e-9);
  EXPECT_NEAR(few[0]["abs"].get<double>(), abs, 1e-9);
  EXPECT_EQ(few[0]["tokens"], 20.0);
  EXPECT_EQ(few[0]["norm"], lines[4]["norm"]);
}

TEST(Trainer, NanThatIsReadLateIsNamedByItsStepAndTeachesNothing) {
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    TestFolder folder;
    TinyProblem p;
    auto options = options_in(folder.path(), 30);
    options.config.log_every = 10;
    int64_t calls = 0;
    try {
      train(p.parameters(),
            [&](const Batch& b) {
              StepLoss loss = p.loss(b);
              if (++calls == 6) loss.sum = loss.sum * bad;
              return loss;
            },
            p.source, *single_process(), options);
      FAIL();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("loss at step 6"), std::string::npos) << error.what();
    }
    EXPECT_EQ(calls, 8) << "the snapshot of step 8 is not written from what is no number";
    Snapshot kept;
    ASSERT_TRUE(read_snapshot(folder / "snapshot.safetensors", "f", kept));
    EXPECT_EQ(kept.state["step"], 4);
    EXPECT_TRUE(p.weight.isfinite().all().item<bool>()) << "the step without a number changed nothing";
  }
}

TEST(Trainer, BestWeightsAreKeptWhenAsked) {
  TestFolder folder;
  TinyProblem p;
  auto options = options_in(folder.path(), 10);
  options.config.result = "best", options.config.eval_every = 1;
  std::vector<at::Tensor> seen;
  options.evaluate = [&] {
    seen.push_back(p.weight.detach().clone());
    return std::vector<std::pair<std::string, double>>{{"loss", seen.size() == 3 ? 0.0 : 1.0}};
  };
  const TrainResult result = train(p.parameters(), [&](const Batch& b) { return p.loss(b); }, p.source, *single_process(), options);
  EXPECT_EQ(result.best_step, 3);
  EXPECT_TRUE(at::equal(p.weight, seen[2]));
}

}  // namespace
}  // namespace attar
