#include "quant/training_grid.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "data_path.h"
#include "quant/kept_scales.h"

namespace attar {
namespace {

constexpr GgmlType kGridTypes[] = {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1,   GgmlType::q8_0,
                                   GgmlType::q2_k, GgmlType::q3_k, GgmlType::q4_k, GgmlType::q5_k,   GgmlType::q6_k,
                                   GgmlType::iq4_nl, GgmlType::mxfp4, GgmlType::tq1_0, GgmlType::tq2_0};

at::Tensor wavy(double phase) { return 0.3 * at::sin(at::arange(4 * 512, at::kFloat) * 1.7 + phase).view({4, 512}); }

TrainingGrid grid_for(GgmlType type, const at::Tensor& weight, TrainingGridOptions options, Rounding rounding = Rounding::search) {
  std::map<std::string, QuantizedTensor> start;
  if (options.scales != Scales::recomputed) start["w"] = quantize_tensor(weight, type, nullptr, rounding);
  return TrainingGrid({{"w", type}}, {}, std::move(start), options);
}

TEST(TrainingGrid, CodesWrittenAreThoseOfTheForwardForEveryTypeAndKindOfScales) {
  for (const GgmlType type : kGridTypes)
    for (const Scales scales : {Scales::recomputed, Scales::kept, Scales::learned}) {
      const std::string label = str(ggml_type_info(type).name, " ", static_cast<int>(scales));
      TrainingGrid grid = grid_for(type, wavy(0), {.scales = scales});
      for (const auto& [name, tensor] : grid.parameters()) tensor.detach().mul_(1.013);  // a step of learning
      Checkpoint model;
      model.weights["w"] = 0.6 * wavy(0) + 0.02 * wavy(1);
      const at::Tensor used = grid.hook()("w", model.weights.at("w").clone());
      grid.write(model);
      EXPECT_TRUE(at::equal(model.weights.at("w"), used)) << label;
      EXPECT_TRUE(at::equal(dequantize_tensor(model.codes.at("w")), used)) << label;
      const QuantizedTensor anew = quantize_tensor(0.6 * wavy(0) + 0.02 * wavy(1), type);
      EXPECT_EQ(at::equal(anew.blocks, model.codes.at("w").blocks), scales == Scales::recomputed) << label;
      EXPECT_EQ(grid.parameters().size(), scales == Scales::learned && scales_can_learn(type) ? 1u : 0u) << label;
    }
}

TEST(TrainingGrid, BeginsWithTheSolutionsCodes) {
  for (const GgmlType type : kGridTypes) {
    // A solution that plain rounding would not find: of other weights nearby.
    const QuantizedTensor solution = quantize_tensor(wavy(0) + 0.05 * wavy(2), type, nullptr, Rounding::search);
    const at::Tensor begun = weight_on_solution(wavy(0), solution);
    TrainingGrid grid({{"w", type}}, {}, {{"w", solution}}, {.scales = Scales::kept});
    Checkpoint model;
    model.weights["w"] = begun;
    EXPECT_TRUE(at::equal(grid.hook()("w", begun), dequantize_tensor(solution))) << ggml_type_info(type).name;
    grid.write(model);
    EXPECT_TRUE(at::equal(model.weights.at("w"), dequantize_tensor(solution))) << ggml_type_info(type).name;
    EXPECT_FALSE(at::equal(begun, dequantize_tensor(solution))) << ggml_type_info(type).name << ": where codes agree the weight itself stays";
  }
}

TEST(TrainingGrid, LearnedScalesHaveLsqsGradient) {
  struct Case {
    GgmlType type;
    int64_t block;
    double lowest, highest;
    bool minimum;
  };
  for (const Case& c : {Case{GgmlType::q4_0, 32, -8, 7, false}, {GgmlType::q4_1, 32, 0, 15, true}, {GgmlType::q5_0, 32, -16, 15, false},
                        {GgmlType::q8_0, 32, -127, 127, false}, {GgmlType::tq2_0, 256, -1, 1, false}}) {
    const std::string label = ggml_type_info(c.type).name;
    TrainingGrid grid = grid_for(c.type, wavy(0), {.scales = Scales::learned}, Rounding::ggml);
    const at::Tensor scales = grid.parameters().at(0).second;
    scales.detach().mul_(0.6);  // so that some weights are clipped
    const at::Tensor weight = wavy(0).clone().set_requires_grad(true), gradient = wavy(3);
    const at::Tensor used = grid.hook()("w", weight);
    (used * gradient).sum().backward();

    const at::Tensor stored = scales.detach().to(at::kHalf).to(at::kFloat);
    EXPECT_FALSE(at::equal(stored, scales.detach())) << label;
    const at::Tensor step = stored.select(2, 0).unsqueeze(2), low = c.minimum ? stored.select(2, 1).unsqueeze(2) : at::zeros_like(step);
    const at::Tensor w = weight.detach().view({4, -1, c.block}), g = gradient.view({4, -1, c.block});
    const at::Tensor share = (w - low) / step, number = share.round().clamp(c.lowest, c.highest);
    EXPECT_LT((used.detach().view(w.sizes()) - (number * step + low)).abs().max().item<double>(), 1e-6) << label;
    const at::Tensor inside = share.round().eq(number);
    ASSERT_FALSE(inside.all().item<bool>()) << label;
    EXPECT_TRUE(at::equal(weight.grad().view(w.sizes()), g * inside)) << label;
    const double shrink = 1 / std::sqrt(static_cast<double>(c.block) * c.highest);
    const at::Tensor by_step = (g * at::where(inside, number - share, number)).sum(2) * shrink, by_low = (g * inside.logical_not()).sum(2) * shrink;
    EXPECT_TRUE(at::allclose(scales.grad().select(2, 0), by_step, 1e-4, 1e-5)) << label;
    if (c.minimum) {
      EXPECT_TRUE(at::allclose(scales.grad().select(2, 1), by_low, 1e-4, 1e-5)) << label;
    }
  }
}

TEST(TrainingGrid, DelayPassesWeightsOnAndThenFindsScales) {
  TrainingGrid grid = grid_for(GgmlType::q4_0, wavy(0), {.scales = Scales::learned, .rounding = Rounding::search, .delay = 2});
  const auto hook = grid.hook();
  StateDict weights = {{"w", wavy(0.4)}};  // where training has brought them
  grid.begin_step(0, weights);
  EXPECT_TRUE(hook("w", weights.at("w")).is_same(weights.at("w")));
  grid.judge();
  EXPECT_TRUE(at::equal(hook("w", weights.at("w")), dequantize_tensor(quantize_tensor(weights.at("w"), GgmlType::q4_0))));
  grid.begin_step(1, weights);
  EXPECT_TRUE(hook("w", weights.at("w")).is_same(weights.at("w")));
  grid.begin_step(2, weights);
  const at::Tensor found = read_scales(quantize_tensor(weights.at("w"), GgmlType::q4_0, nullptr, Rounding::search));
  EXPECT_TRUE(at::equal(grid.parameters().at(0).second, found));
  grid.parameters().at(0).second.detach().mul_(1.5);
  grid.begin_step(3, weights);
  EXPECT_FALSE(at::equal(grid.parameters().at(0).second, found)) << "what was learned stays";
}

TEST(TrainingGrid, AdaptersAreAddedBeforeTheRounding) {
  ModelSpec spec;
  spec.vocab = 32, spec.hidden = 64, spec.head_size = 32, spec.context = 16;
  spec.layers.assign(1, LayerSpec{.ffn = 64, .heads = 2, .kv_heads = 2});
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  LoraConfig config;
  config.rank = 2, config.targets = {"q_proj"};
  const auto adapters = std::make_shared<LoraAdapters>(spec, config, 3);
  adapters->find(name)->b.detach().copy_(at::sin(at::arange(128, at::kFloat)).view({64, 2}));
  adapters->require_grad(true);
  Checkpoint model;
  model.spec = spec, model.weights = Decoder::random(spec, 1).weights();
  TrainingGrid grid({{name, GgmlType::q4_0}}, {}, {}, {});
  grid.set_adapters(adapters);
  const at::Tensor used = grid.hook()(name, model.weights.at(name));
  used.sum().backward();
  EXPECT_TRUE(adapters->find(name)->a.grad().defined() && adapters->find(name)->b.grad().defined());
  EXPECT_FALSE(model.weights.at(name).grad().defined());
  EXPECT_FALSE(at::equal(used, dequantize_tensor(quantize_tensor(model.weights.at(name), GgmlType::q4_0))));
  adapters->merge_into(model.weights);
  grid.write(model);
  EXPECT_TRUE(at::equal(model.weights.at(name), used.detach()));
}

TEST(TrainingGrid, ScalesThatFp16CannotHoldAreRefused) {
  TrainingGrid grid = grid_for(GgmlType::q8_0, wavy(0), {.scales = Scales::learned});
  grid.parameters().at(0).second.detach().fill_(1e6);
  EXPECT_THROW(grid.hook()("w", wavy(0)), Error);
}

}  // namespace
}  // namespace attar
