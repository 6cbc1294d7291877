#include "train/ema.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "train/lr_scale.h"

namespace attar {
namespace {

class SteadySource : public Source {
 public:
  void next(Batch& batch) override { batch.columns["x"] = at::cos(at::arange(4, at::kFloat) + static_cast<double>(position_++)); }
  int64_t position() const override { return position_; }
  void seek(int64_t position) override { position_ = position; }

 private:
  int64_t position_ = 0;
};

struct AveragedProblem {
  at::Tensor slow = at::full({4}, 0.5, at::kFloat).requires_grad_(true), fast = at::full({4}, 0.5, at::kFloat).requires_grad_(true);
  SteadySource source;
  std::vector<at::Tensor> path;  ///< `fast` after every step
  TrainerOptions options;
  AveragedProblem(const fs::path& folder, double ema) {
    make_folder(folder);
    options.config.steps = 9, options.config.warmup = 0, options.config.lr = 0.05, options.config.snapshot_every = 4, options.config.ema = ema;
    options.config.eval_every = 1, options.folder = folder, options.fingerprint = "f";
    options.after_step = [this](int64_t) { path.push_back(fast.detach().clone()); };
  }
  TrainResult run(double slow_scale = 1, int64_t fail_at = -1) {
    int64_t calls = 0;
    return train({{"slow", slow, true, slow_scale}, {"fast", fast, true, 1}},
                 [&](const Batch& b) -> StepLoss {
                   if (++calls == fail_at) fail("pulled the plug");
                   return {((slow - b.at("x")).square() + (fast - b.at("x")).square()).sum(), 4.0, {}};
                 },
                 source, *single_process(), options);
  }
};

TEST(Ema, ResultIsTheAverageOfThePath) {
  TestFolder folder;
  AveragedProblem p(folder / "a", 0.8), plain(folder / "b", 0);
  std::vector<at::Tensor> seen;
  p.options.evaluate = [&] {
    seen.push_back(p.fast.detach().clone());
    return std::vector<std::pair<std::string, double>>{};
  };
  p.run();
  plain.run();
  at::Tensor average = at::full({4}, 0.5, at::kDouble);
  for (size_t i = 0; i < p.path.size(); ++i) {
    const double s = static_cast<double>(i) + 1, kept = std::min(0.8, (1 + s) / (10 + s));
    average = average * kept + p.path[i].to(at::kDouble) * (1 - kept);
    EXPECT_LT((seen[i].to(at::kDouble) - average).abs().max().item<double>(), 1e-6) << "evaluation sees the average, step " << s;
  }
  EXPECT_LT((p.fast.detach().to(at::kDouble) - average).abs().max().item<double>(), 1e-6);
  EXPECT_TRUE(at::equal(p.path.back(), plain.path.back())) << "averaging does not change the path";
  EXPECT_FALSE(at::equal(p.fast, plain.fast));
}

TEST(Ema, ResumedEndsWithTheSameBits) {
  TestFolder folder;
  AveragedProblem straight(folder / "a", 0.8), broken(folder / "b", 0.8), resumed(folder / "b", 0.8);
  straight.run();
  EXPECT_THROW(broken.run(1, 7), Error);
  resumed.run();
  EXPECT_EQ(resumed.path.size(), 5u);
  EXPECT_TRUE(at::equal(straight.fast, resumed.fast));
}

TEST(Ema, RefusesWhatIsNoShare) {
  TestFolder folder;
  for (const double wrong : {1.0, -0.1, 2.0}) EXPECT_THROW(AveragedProblem(folder / "a", wrong).run(), Error) << wrong;
}

TEST(LrScale, FirstStepIsThatShareOfTheOthers) {
  TestFolder folder;
  AveragedProblem p(folder / "a", 0);
  p.options.config.steps = 1, p.options.config.weight_decay = 0, p.options.config.schedule = "constant";
  p.run(0.1);
  // Adam's first step is the learning rate in each direction.
  const at::Tensor slow = (p.slow.detach() - 0.5).abs(), fast = (p.fast.detach() - 0.5).abs();
  EXPECT_LT((slow * 10 - fast).abs().max().item<double>(), 1e-5);
  EXPECT_GT(fast.min().item<double>(), 0.04);
}

TEST(LrScale, NamesDecideTheKind) {
  LrScaleConfig c{0.1, 0.2, 0.3, 0.4, 0.5, 0.6};
  EXPECT_EQ(lr_scale_of("model.embed_tokens.weight", c), 0.1);
  EXPECT_EQ(lr_scale_of("lm_head.weight", c), 0.2);
  EXPECT_EQ(lr_scale_of("model.layers.0.mlp.up_proj.weight", c), 0.3);
  EXPECT_EQ(lr_scale_of("model.layers.0.mlp.up_proj.weight.lora_A", c), 0.3);
  EXPECT_EQ(lr_scale_of("model.layers.0.input_layernorm.weight", c), 0.4);
  EXPECT_EQ(lr_scale_of("model.layers.0.self_attn.q_norm.weight", c), 0.4);
  EXPECT_EQ(lr_scale_of("model.norm.weight", c), 0.4);
  EXPECT_EQ(lr_scale_of("model.layers.0.self_attn.q_proj.bias", c), 0.5);
  EXPECT_EQ(lr_scale_of("projection.0", c), 0.6);
  c.norms = -1;
  EXPECT_THROW(lr_scale_of("projection.0", c), Error);
}

}  // namespace
}  // namespace attar
