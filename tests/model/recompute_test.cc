#include "model/recompute.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "model/decoder.h"

namespace attar {
namespace {

/// Bytes that tensors of this thread hold more than at the start, and the most of it.
class HeldBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override { most = std::max(most, held += bytes); }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t held = 0, most = 0;
};

ModelSpec deep_spec() {
  ModelSpec spec;
  spec.vocab = 40, spec.hidden = 32, spec.head_size = 8, spec.context = 64;
  for (int i = 0; i < 6; ++i) spec.layers.push_back({96, 4, 2, 0, false});
  return spec;
}

struct RecomputeRun {
  std::map<std::string, at::Tensor> gradients;
  at::Tensor value;
  int64_t held = 0, most = 0;
};

RecomputeRun forward_and_back(bool recompute, bool bf16) {
  Decoder model = Decoder::random(deep_spec(), 4);
  model.require_grad(true);
  model.recompute_layers = recompute;
  model.autocast_bf16 = bf16;
  const at::Tensor ids = at::arange(2 * 48, at::kLong).remainder(40).view({2, 48});
  RecomputeRun out;
  const auto bytes = std::make_shared<HeldBytes>();
  {
    const c10::DebugInfoGuard watched(c10::DebugInfoKind::PROFILER_STATE, bytes);
    const at::Tensor sum = model.hidden({ids, {}, {}, {}}).to(at::kFloat).cos().sum();
    out.held = bytes->held;
    out.value = sum.detach();
    sum.backward();
    out.most = bytes->most;
  }
  for (const auto& [name, tensor] : model.weights())
    if (tensor.grad().defined()) out.gradients[name] = tensor.grad();
  return out;
}

TEST(Recompute, SameGradientsToTheBitAndLessHeld) {
  const RecomputeRun plain = forward_and_back(false, false), again = forward_and_back(true, false);
  EXPECT_TRUE(at::equal(plain.value, again.value));
  ASSERT_EQ(plain.gradients.size(), again.gradients.size());
  EXPECT_GT(plain.gradients.size(), 6u * 9);
  for (const auto& [name, gradient] : plain.gradients) EXPECT_TRUE(at::equal(gradient, again.gradients.at(name))) << name;
  ASSERT_GT(plain.held, 0);
  EXPECT_LT(again.held * 4, plain.held) << "kept between forward and backward";
  EXPECT_LT(again.most, plain.most) << "the most at any time, gradients counted";
}

TEST(Recompute, Bfloat16GivesTheSameBitsToo) {
  const RecomputeRun plain = forward_and_back(false, true), again = forward_and_back(true, true);
  for (const auto& [name, gradient] : plain.gradients) EXPECT_TRUE(at::equal(gradient, again.gradients.at(name))) << name;
}

TEST(Recompute, BodyRunsOnceWithoutGradientAndTwiceWith) {
  int calls = 0;
  const auto body = [&](const at::Tensor& x) { ++calls; return x * x; };
  at::Tensor x = at::full({3}, 2.0f).requires_grad_(true);
  {
    const at::NoGradGuard no_grad;
    recomputed(x, body);
  }
  EXPECT_EQ(calls, 1);
  recomputed(x, body).sum().backward();
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(at::equal(x.grad(), at::full({3}, 4.0f)));
}

TEST(Decoder, GivesOutputsOfChosenLayersWithGradient) {
  for (const bool recompute : {false, true}) {
    Decoder model = Decoder::random(deep_spec(), 4);
    const at::Tensor ids = at::arange(12, at::kLong).view({1, 12});
    std::map<std::string, at::Tensor> seen;
    model.set_observer([&](const std::string& name, const at::Tensor& value) { seen[name] = value.detach().clone(); });
    model.recompute_layers = recompute;
    model.require_grad(true);
    std::map<int64_t, at::Tensor> states = {{2, {}}, {6, {}}};
    model.hidden({ids, {}, {}, {}}, nullptr, &states);
    EXPECT_TRUE(at::equal(states.at(2), seen.at("model.layers.1.output")));
    EXPECT_TRUE(at::equal(states.at(6), seen.at("model.layers.5.output")));
    states.at(2).square().sum().backward();
    EXPECT_GT(model.weights().at("model.layers.1.mlp.down_proj.weight").grad().abs().max().item<double>(), 0);
    EXPECT_FALSE(model.weights().at("model.layers.2.mlp.down_proj.weight").grad().defined()) << "nothing after the layer takes part";
  }
}

}  // namespace
}  // namespace attar
