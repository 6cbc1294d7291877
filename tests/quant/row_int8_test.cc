#include "quant/row_int8.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "data_path.h"
#include "quant/kept_scales.h"
#include "quant/training_grid.h"
#include "quant/type_plan.h"

namespace attar {
namespace {

at::Tensor spiky(int64_t rows, int64_t columns) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(12);
  at::Tensor w = at::randn({rows, columns}, generator, at::kFloat);
  w.select(1, 3).mul_(9);
  w[1].zero_();
  return w;
}

TEST(RowInt8, RoundsByTheRowsLargestMagnitude) {
  const at::Tensor w = spiky(6, 100), peak = w.abs().amax(1, true), scale = at::where(peak > 0, peak / 127, at::ones_like(peak));
  const QuantizedTensor got = quantize_tensor(w, GgmlType::i8);
  EXPECT_TRUE(at::equal(got.scales, scale.view({-1})));
  const at::Tensor numbers = got.blocks.view(at::kChar);
  EXPECT_TRUE(at::equal(numbers, (w / scale).round().clamp(-127, 127).to(at::kChar)));
  EXPECT_TRUE(at::equal(dequantize_tensor(got), numbers.to(at::kFloat) * scale));
  EXPECT_EQ(numbers[1].abs().max().item<int>(), 0) << "a row of zeros";
  at::Tensor broken = w.clone();
  broken[4][7] = std::numeric_limits<float>::infinity();
  try {
    quantize_tensor(broken, GgmlType::i8);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("[4, 7]"), std::string::npos) << error.what();
  }
}

TEST(RowInt8, SearchedScalesAreNeverWorseAndHeedImportance) {
  const at::Tensor w = spiky(6, 100);
  std::vector<float> importance(100, 1e-3f);
  for (size_t c = 10; c < 20; ++c) importance[c] = 50;
  const at::Tensor weights = at::tensor(importance);
  const auto error = [&](const QuantizedTensor& codes, bool weighted) {
    const at::Tensor squares = (dequantize_tensor(codes) - w).square();
    return (weighted ? squares * weights : squares).sum(1);
  };
  const QuantizedTensor plain = quantize_tensor(w, GgmlType::i8), searched = quantize_tensor(w, GgmlType::i8, nullptr, Rounding::search),
                        heeding = quantize_tensor(w, GgmlType::i8, &importance, Rounding::search);
  EXPECT_TRUE((error(searched, false) <= error(plain, false) * (1 + 1e-6)).all().item<bool>());
  EXPECT_LT(error(searched, false).sum().item<double>(), error(plain, false).sum().item<double>());
  EXPECT_LT(error(heeding, true).sum().item<double>(), 0.9 * error(searched, true).sum().item<double>());
}

TEST(RowInt8, LearnedScalesHaveLsqsGradient) {
  const at::Tensor start = spiky(5, 64);
  TrainingGrid grid({{"w", GgmlType::i8}}, {}, {{"w", quantize_tensor(start, GgmlType::i8)}}, {.scales = Scales::learned});
  const at::Tensor scales = grid.parameters().at(0).second;
  ASSERT_EQ(scales.sizes(), at::IntArrayRef({5, 1, 1}));
  scales.detach().mul_(0.7);  // so that some weights are clipped
  const at::Tensor weight = start.clone().set_requires_grad(true), gradient = at::sin(at::arange(5 * 64, at::kFloat)).view({5, 64});
  (grid.hook()("w", weight) * gradient).sum().backward();

  const at::Tensor step = scales.detach().view({5, 1}), share = start / step, number = share.round().clamp(-127, 127);
  const at::Tensor inside = share.round().abs().le(127);
  EXPECT_TRUE(inside.logical_not().any().item<bool>());
  EXPECT_TRUE(at::equal(weight.grad(), at::where(inside, gradient, at::zeros_like(gradient))));
  const at::Tensor wanted = (gradient * at::where(inside, number - share, number)).to(at::kDouble).sum(1) / std::sqrt(64.0 * 127.0);
  EXPECT_LT((scales.grad().view({5}).to(at::kDouble) - wanted).abs().max().item<double>(), 1e-5 * wanted.abs().max().item<double>());
}

TEST(RowInt8, CodesWrittenAreThoseOfTheForward) {
  for (const Scales kind : {Scales::recomputed, Scales::kept, Scales::learned}) {
    std::map<std::string, QuantizedTensor> start;
    if (kind != Scales::recomputed) start["w"] = quantize_tensor(spiky(6, 100), GgmlType::i8, nullptr, Rounding::search);
    TrainingGrid grid({{"w", GgmlType::i8}}, {}, std::move(start), {.scales = kind});
    for (const auto& [name, tensor] : grid.parameters()) tensor.detach().mul_(1.013);
    Checkpoint model;
    model.weights["w"] = 0.8 * spiky(6, 100);
    const at::Tensor used = grid.hook()("w", model.weights.at("w").clone());
    grid.write(model);
    EXPECT_TRUE(at::equal(model.weights.at("w"), used));
    EXPECT_TRUE(at::equal(dequantize_tensor(model.codes.at("w")), used));
    const QuantizedTensor anew = quantize_tensor(0.8 * spiky(6, 100), GgmlType::i8);
    EXPECT_EQ(at::equal(anew.blocks, model.codes.at("w").blocks), kind == Scales::recomputed);
    const QuantizedTensor solution = quantize_tensor(0.97 * spiky(6, 100), GgmlType::i8, nullptr, Rounding::search);
    const at::Tensor begun = weight_on_solution(spiky(6, 100), solution);
    EXPECT_TRUE(at::equal(round_beside_scales(begun, solution), dequantize_tensor(solution)));
  }
}

TEST(RowInt8, PlansAByteAWeightAndAScaleARow) {
  ModelSpec spec;
  spec.vocab = 50, spec.hidden = 24, spec.head_size = 8, spec.context = 32, spec.tied = true;
  spec.layers.assign(1, LayerSpec{.ffn = 40, .heads = 3, .kv_heads = 1});
  const TypePlan plan = plan_types(spec, "int8", false, true, false);
  EXPECT_EQ(plan.types.size(), 8u) << "rows of any width";
  int64_t bytes = 0;
  for (const ParameterInfo& p : parameters_of(spec)) bytes += p.shape.size() == 2 ? p.shape[0] * (p.shape[1] + 4) : 4 * p.shape[0];
  EXPECT_EQ(tensor_bytes(spec, plan.types), bytes);
  EXPECT_EQ(plan_types(spec, "int8", false, false, false).types.size(), 7u);
}

}  // namespace
}  // namespace attar
