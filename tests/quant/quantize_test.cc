#include "quant/quantize.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "kernels/ggml_blocks.h"
#include "data_path.h"

namespace attar {
namespace {

ModelSpec tiny_spec() {
  ModelSpec s;
  s.vocab = 64, s.hidden = 64, s.head_size = 16, s.context = 32;
  s.layers.assign(2, LayerSpec{.ffn = 96, .heads = 4, .kv_heads = 2});
  return s;
}

TEST(Quantize, WeightsAreExactlyTheDequantizedCodes) {
  const ModelSpec spec = tiny_spec();
  Checkpoint model;
  model.spec = spec;
  model.weights = Decoder::random(spec, 3).weights();
  const auto names = quantized_names(spec, GgmlType::q4_0, true);
  EXPECT_EQ(names.size(), 2u + 2 * 7);
  quantize_checkpoint(model, GgmlType::q4_0, names);
  for (const auto& [name, codes] : model.codes) {
    EXPECT_TRUE(at::equal(model.weights.at(name), dequantize_tensor(codes))) << name;
    EXPECT_EQ(codes.blocks.size(1), ggml_row_bytes(GgmlType::q4_0, codes.shape[1]));
  }
  EXPECT_EQ(quantized_names(spec, GgmlType::q4_0, false).size(), 2u * 7);
}

TEST(Quantize, RowsThatNoBlockDividesAreLeftOut) {
  ModelSpec spec = tiny_spec();
  for (LayerSpec& layer : spec.layers) layer.ffn = 40;  // down_proj has rows of 40
  for (const std::string& name : quantized_names(spec, GgmlType::q4_0, true)) EXPECT_EQ(name.find("down_proj"), std::string::npos) << name;
}

TEST(Quantize, ForwardOfTrainingIsTheFileAndGradientPassesThrough) {
  const at::Tensor weight = at::sin(at::arange(4 * 64, at::kFloat)).view({4, 64}).clone().set_requires_grad(true);
  const auto hook = fake_quantization(GgmlType::q4_0, {"w"});
  const at::Tensor used = hook("w", weight);
  EXPECT_TRUE(at::equal(used, dequantize_tensor(quantize_tensor(weight, GgmlType::q4_0))));
  EXPECT_FALSE(at::equal(used, weight));
  const at::Tensor scale = at::cos(at::arange(4 * 64, at::kFloat)).view({4, 64});
  (used * scale).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad(), scale));
  EXPECT_TRUE(hook("another", weight).is_same(weight));
}

TEST(Quantize, NotANumberIsNamed) {
  const ModelSpec spec = tiny_spec();
  Checkpoint model;
  model.spec = spec;
  model.weights = Decoder::random(spec, 3).weights();
  model.weights.at("model.layers.1.mlp.up_proj.weight")[5][7] = std::numeric_limits<float>::quiet_NaN();
  try {
    quantize_checkpoint(model, GgmlType::q8_0, quantized_names(spec, GgmlType::q8_0, true));
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("model.layers.1.mlp.up_proj.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("5"), std::string::npos) << text;
    EXPECT_NE(text.find("7"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace attar
