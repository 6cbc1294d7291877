#include "train/recorded_step.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "host_graph.h"
#include "report/run_log.h"

namespace attar {
namespace {

/// Batches of 8 numbers, or of as many as their turn among `sizes` says.
class SizedSource : public Source {
 public:
  explicit SizedSource(std::vector<int64_t> sizes = {8}) : sizes_(std::move(sizes)) {}
  void next(Batch& batch) override {
    const int64_t size = sizes_[static_cast<size_t>(position_) % sizes_.size()];
    batch.columns["x"] = at::sin(at::arange(size, at::kFloat) + static_cast<double>(position_++));
  }
  int64_t position() const override { return position_; }
  void seek(int64_t position) override { position_ = position; }

 private:
  std::vector<int64_t> sizes_;
  int64_t position_ = 0;
};

/// A small network whose loss comes whole and in halves.
struct TwoHalves {
  at::Tensor weight, bias;
  explicit TwoHalves(at::Device device = at::kCPU) {
    weight = at::sin(at::arange(12, at::kFloat)).view({3, 4}).to(device).requires_grad_(true);
    bias = at::zeros({3}, weight.options()).requires_grad_(true);
  }
  std::vector<TrainParameter> parameters() { return {{"weight", weight, true}, {"bias", bias, false, 0.3}}; }
  StepLoss loss(const at::Tensor& x) const {
    const at::Tensor y = at::tanh(at::mm(x.view({-1, 4}), weight.t()) + bias);
    return {(y - 0.5).square().sum(), static_cast<double>(x.numel()), {{"abs", y.detach().abs().sum()}}};
  }
  FixedStep halves(MakeGraph make, bool must = true) const {
    FixedStep step;
    step.make_graph = std::move(make), step.must = must, step.device = weight.device();
    step.fix = [this](const Batch& batch) {
      FixedBatch out;
      const at::Tensor& x = batch.at("x");
      out.key = std::to_string(x.numel());
      out.inputs["x"] = x;
      out.tokens = static_cast<double>(x.numel());
      out.loss = [this](const NamedTensors& in) { return loss(in.at("x")); };
      return out;
    };
    return step;
  }
};

struct Trained {
  at::Tensor weight, bias;
  TrainResult result;
  std::vector<Json> log;
};

struct HowToTrain {
  int64_t steps = 9, accumulate = 1;
  double ema = 0;
  std::vector<int64_t> sizes = {8};
  at::Device device = at::kCPU;
};

Trained train_two_halves(const fs::path& folder, const HowToTrain& how, std::optional<MakeGraph> make, bool must = true) {
  fs::create_directories(folder);
  TwoHalves net(how.device);
  SizedSource source(how.sizes);
  TrainerOptions options;
  options.config.steps = how.steps, options.config.accumulate = how.accumulate, options.config.ema = how.ema;
  options.config.warmup = 2, options.config.lr = 0.05, options.config.clip = 0.02, options.config.snapshot_every = 4;
  options.folder = folder, options.fingerprint = "f", options.device = how.device;
  if (make) options.fixed = net.halves(*make, must);
  Trained out;
  out.result = train(net.parameters(), [&](const Batch& b) { return net.loss(b.at("x").to(how.device)); }, source, *single_process(), options);
  out.weight = net.weight.detach().cpu(), out.bias = net.bias.detach().cpu();
  for (const Json& line : read_run_log(folder / "log.jsonl")) out.log.push_back(line);
  return out;
}

void expect_same(const Trained& got, const Trained& plain) {
  EXPECT_TRUE(at::equal(got.weight, plain.weight));
  EXPECT_TRUE(at::equal(got.bias, plain.bias));
  ASSERT_EQ(got.log.size(), plain.log.size());
  for (size_t i = 0; i < got.log.size(); ++i)
    for (const char* name : {"step", "loss", "lr", "norm", "tokens", "abs"}) EXPECT_EQ(got.log[i][name], plain.log[i][name]) << i << " " << name;
}

TEST(RecordedStep, GivesThePlainTrainersBits) {
  TestFolder folder;
  for (const HowToTrain& how : {HowToTrain{}, HowToTrain{.accumulate = 3}, HowToTrain{.ema = 0.9}}) {
    SCOPED_TRACE(str(how.accumulate, " ", how.ema));
    const std::string name = str(how.accumulate, how.ema);
    const Trained plain = train_two_halves(folder / ("plain" + name), how, {});
    const Trained got = train_two_halves(folder / ("recorded" + name), how, host_graphs());
    expect_same(got, plain);
    EXPECT_EQ(got.result.replayed, how.steps * how.accumulate - RecordedWork::kPlainRuns);
    EXPECT_EQ(plain.result.replayed, 0);
  }
}

TEST(RecordedStep, GoesOnFromASnapshotToTheSameBits) {
  TestFolder folder;
  const Trained straight = train_two_halves(folder / "straight", {}, host_graphs());
  fs::create_directories(folder / "killed");
  {
    TwoHalves net;
    SizedSource source;
    TrainerOptions options;
    options.config.steps = 9, options.config.warmup = 2, options.config.lr = 0.05, options.config.clip = 0.02, options.config.snapshot_every = 4;
    options.folder = folder / "killed", options.fingerprint = "f";
    options.fixed = net.halves(host_graphs());
    options.after_step = [](int64_t step) { if (step == 7) fail("pulled the plug"); };
    EXPECT_THROW(train(net.parameters(), {}, source, *single_process(), options), Error);
  }
  const Trained again = train_two_halves(folder / "killed", {}, host_graphs());
  EXPECT_EQ(again.result.replayed, 3) << "steps 5 to 9 are left after the snapshot at step 4, the first two as they stand";
  EXPECT_TRUE(at::equal(again.weight, straight.weight));
  EXPECT_TRUE(at::equal(again.bias, straight.bias));
}

TEST(RecordedStep, FurtherShapesAreDoneAsTheyStand) {
  TestFolder folder;
  const HowToTrain how{.steps = 24, .sizes = {8, 12, 16, 20, 24, 28}};
  const Trained plain = train_two_halves(folder / "plain", how, {}), got = train_two_halves(folder / "recorded", how, host_graphs());
  expect_same(got, plain);
  // Each size comes four times; the first two are plain runs, and the last two sizes find no room.
  EXPECT_EQ(got.result.replayed, static_cast<int64_t>(RecordedStep::kMostRecordings) * (4 - RecordedWork::kPlainRuns));
}

TEST(RecordedStep, WhatCannotBeRecordedIsAnErrorOrDoneAsItStands) {
  TestFolder folder;
  const Trained plain = train_two_halves(folder / "plain", {}, {}), got = train_two_halves(folder / "willing", {}, host_graphs(true), false);
  expect_same(got, plain);
  EXPECT_EQ(got.result.replayed, 0);
  EXPECT_THROW(train_two_halves(folder / "strict", {}, host_graphs(true), true), Error);
}

TEST(CudaTrain, RecordedStepsGiveThePlainBits) {
  std::string why;
  if (!cuda_usable(&why)) GTEST_SKIP() << "SKIPPED LOUDLY: no step was recorded: " << why;
  TestFolder folder;
  for (const int64_t accumulate : {1, 3}) {
    const HowToTrain how{.steps = 12, .accumulate = accumulate, .device = parse_device("cuda")};
    const MakeGraph make = cuda_graphs(how.device, &why);
    ASSERT_TRUE(make) << why;
    const Trained plain = train_two_halves(folder / str("plain", accumulate), how, {});
    const Trained got = train_two_halves(folder / str("recorded", accumulate), how, make);
    EXPECT_TRUE(at::equal(got.weight, plain.weight));
    EXPECT_TRUE(at::equal(got.bias, plain.bias));
    EXPECT_EQ(got.result.replayed, how.steps * accumulate - RecordedWork::kPlainRuns);
  }
}

}  // namespace
}  // namespace attar
