#include "quant/quantize.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "blocks/ggml_blocks.h"
#include "data_path.h"
#include "quant/type_plan.h"
#include "small_model.h"

namespace attar {
namespace {

ModelSpec tiny_spec() { return small_shape(64, 64, 16, 2, LayerSpec{.ffn = 96, .heads = 4, .kv_heads = 2}); }

Checkpoint tiny_model() { return small_model(tiny_spec(), 3); }

TEST(Quantize, WeightsAreExactlyTheDequantizedCodes) {
  Checkpoint model = tiny_model();
  const TypePlan plan = plan_types(model.spec, "q4_0", false, true, false);
  EXPECT_EQ(plan.types.size(), 2u + 2 * 7);
  EXPECT_TRUE(plan.notes.empty());
  quantize_checkpoint(model, plan.types);
  EXPECT_EQ(model.codes.size(), plan.types.size());
  for (const auto& [name, codes] : model.codes) {
    EXPECT_EQ(codes.type, GgmlType::q4_0);
    EXPECT_TRUE(at::equal(model.weights.at(name), dequantize_tensor(codes))) << name;
    EXPECT_EQ(codes.blocks.size(1), ggml_row_bytes(GgmlType::q4_0, codes.shape[1]));
  }
  EXPECT_EQ(plan_types(model.spec, "q4_0", false, false, false).types.size(), 2u * 7);
}

TEST(TypePlan, RowsThatNoBlockDividesGetTheFallbackAndItIsSaid) {
  ModelSpec spec = tiny_spec();  // rows of 64 and 96: no K type fits
  const TypePlan k = plan_types(spec, "q4_k", false, true, false);
  for (const auto& [name, type] : k.types) EXPECT_EQ(type, GgmlType::q5_0) << name;
  ASSERT_FALSE(k.notes.empty());
  EXPECT_NE(k.notes[0].find("no multiple of 256: q5_0"), std::string::npos) << k.notes[0];
  for (LayerSpec& layer : spec.layers) layer.ffn = 40;  // down_proj has rows of 40
  const TypePlan odd = plan_types(spec, "q4_0", false, true, false);
  for (const auto& [name, type] : odd.types)
    EXPECT_EQ(type, name.find("down_proj") != std::string::npos ? GgmlType::f16 : GgmlType::q4_0) << name;
  Checkpoint model;
  model.spec = spec;
  model.weights = Decoder::random(spec, 3).weights();
  quantize_checkpoint(model, odd.types);
  const std::string down = "model.layers.0.mlp.down_proj.weight";
  EXPECT_TRUE(at::equal(model.weights.at(down), Decoder::random(spec, 3).weights().at(down).to(at::kHalf).to(at::kFloat)));
}

TEST(TypePlan, MixesAreLlamaQuantizes) {
  ModelSpec spec = tiny_spec();
  spec.hidden = 256, spec.head_size = 64;
  spec.layers.assign(8, LayerSpec{.ffn = 512, .heads = 4, .kv_heads = 2});
  const TypePlan mix = plan_types(spec, "q4_k_m", false, true, false);
  EXPECT_EQ(mix.types.at("lm_head.weight"), GgmlType::q6_k);
  EXPECT_EQ(mix.types.at("model.embed_tokens.weight"), GgmlType::q4_k);
  EXPECT_EQ(mix.types.at("model.layers.0.mlp.down_proj.weight"), GgmlType::q6_k);
  EXPECT_EQ(mix.types.at("model.layers.1.mlp.down_proj.weight"), GgmlType::q4_k);
  EXPECT_EQ(mix.types.at("model.layers.1.mlp.up_proj.weight"), GgmlType::q4_k);
  const TypePlan pure = plan_types(spec, "q4_k", false, true, false);
  for (const auto& [name, type] : pure.types) EXPECT_EQ(type, GgmlType::q4_k) << name;
  EXPECT_EQ(plan_types(spec, "q4_0", true, true, false).types.at("lm_head.weight"), GgmlType::q6_k);
  EXPECT_EQ(plan_types(spec, "q4_0", true, true, true).types.at("model.layers.0.mlp.down_proj.weight"), GgmlType::q4_1);
  for (const auto& [name, type] : plan_types(spec, "int4", false, true, false).types) EXPECT_EQ(type, GgmlType::q4_0) << name;
  for (const char* bad : {"f16", "q9_k", ""}) EXPECT_THROW(plan_types(spec, bad, false, true, false), Error) << bad;
  // Bytes: every matrix by its type, norms as F32.
  int64_t bytes = 0;
  for (const ParameterInfo& p : parameters_of(spec)) {
    const auto type = mix.types.find(p.name);
    bytes += p.shape.size() == 2 ? p.shape[0] * ggml_row_bytes(type->second, p.shape[1]) : 4 * p.shape[0];
  }
  EXPECT_EQ(tensor_bytes(spec, mix.types), bytes);
}

TEST(Quantize, ImportanceAndSearchReachTheKernels) {
  Checkpoint model = tiny_model();
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const at::Tensor weight = model.weights.at(name).clone();
  std::vector<float> importance(64);
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = 0.1f + float(i % 7);
  const auto error = [&](const QuantizedTensor& codes) {
    const at::Tensor w = at::from_blob(importance.data(), {64}, at::kFloat);
    return ((dequantize_tensor(codes) - weight).square() * w).sum().item<double>();
  };
  const double plain = error(quantize_tensor(weight, GgmlType::q4_0)), weighted = error(quantize_tensor(weight, GgmlType::q4_0, &importance));
  const double searched = error(quantize_tensor(weight, GgmlType::q4_0, &importance, Rounding::search));
  EXPECT_LT(weighted, plain);
  EXPECT_LT(searched, weighted);
  quantize_weight(model, name, GgmlType::q4_0, {{name, importance}}, Rounding::search);
  EXPECT_EQ(error(model.codes.at(name)), searched);
  importance.pop_back();
  EXPECT_THROW(quantize_tensor(weight, GgmlType::q4_0, &importance), Error);
}

TEST(Quantize, ForwardOfTrainingIsTheFileAndGradientPassesThrough) {
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q8_0, GgmlType::q2_k, GgmlType::q3_k, GgmlType::q4_k,
                              GgmlType::q5_k, GgmlType::q6_k, GgmlType::tq2_0}) {
    const at::Tensor weight = at::sin(at::arange(4 * 256, at::kFloat)).view({4, 256}).clone().set_requires_grad(true);
    const auto hook = fake_quantization({{"w", type}});
    const at::Tensor used = hook("w", weight);
    EXPECT_TRUE(at::equal(used, dequantize_tensor(quantize_tensor(weight, type)))) << ggml_type_info(type).name;
    EXPECT_FALSE(at::equal(used, weight));
    const at::Tensor scale = at::cos(at::arange(4 * 256, at::kFloat)).view({4, 256});
    (used * scale).sum().backward();
    EXPECT_TRUE(at::equal(weight.grad(), scale));
    EXPECT_TRUE(hook("another", weight).is_same(weight));
  }
}

TEST(Quantize, NotANumberIsNamed) {
  for (const Rounding rounding : {Rounding::ggml, Rounding::search}) {
    Checkpoint model = tiny_model();
    model.weights.at("model.layers.1.mlp.up_proj.weight")[5][7] = std::numeric_limits<float>::quiet_NaN();
    try {
      quantize_checkpoint(model, plan_types(model.spec, "q8_0", false, true, false).types, {}, rounding);
      FAIL();
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("model.layers.1.mlp.up_proj.weight"), std::string::npos) << text;
      EXPECT_NE(text.find("5"), std::string::npos) << text;
      EXPECT_NE(text.find("7"), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace attar
