#include <limits>

#include "base/check.h"
#include "spec/golden_cases.h"
#include "spec/model_config.h"

namespace attar {
namespace {

TEST(Parameters, CountsNamesAndShapesAreTransformers) {
  for (const Json& one : golden_cases()) {
    const ModelSpec spec = spec_from_config(one.at("new"), one.at("name"));
    EXPECT_EQ(parameter_count(spec), one.at("parameters").get<int64_t>()) << one.at("name");
    Json shapes = one.at("shapes");
    for (const ParameterInfo& p : parameters_of(spec)) {
      if (spec.fused_projections && (p.name.find("q_proj") != std::string::npos || p.name.find("k_proj") != std::string::npos ||
                                     p.name.find("v_proj") != std::string::npos || p.name.find("gate_proj") != std::string::npos ||
                                     p.name.find("up_proj") != std::string::npos))
        continue;  // stored as qkv_proj and gate_up_proj; the count above covers them
      ASSERT_TRUE(shapes.contains(p.name)) << one.at("name") << " " << p.name;
      EXPECT_EQ(shapes.at(p.name).get<std::vector<int64_t>>(), p.shape) << one.at("name") << " " << p.name;
      shapes.erase(p.name);
    }
    for (const auto& [name, shape] : shapes.items()) {
      const bool fused = name.ends_with("qkv_proj.weight") || name.ends_with("gate_up_proj.weight");
      EXPECT_TRUE(spec.fused_projections && fused) << one.at("name") << " " << name;
    }
  }
}

TEST(Parameters, OrderIsFixedAndLinearsAreKnown) {
  const std::vector<ParameterInfo> all = parameters_of(golden_spec("gemma3"));
  EXPECT_EQ(all.front().name, "model.embed_tokens.weight");
  EXPECT_EQ(all[1].name, "model.layers.0.input_layernorm.weight");
  EXPECT_EQ(all.back().name, "model.norm.weight");
  EXPECT_EQ(parameters_of(golden_spec("qwen3")).back().name, "lm_head.weight");
  EXPECT_EQ(layer_name(3, "mlp.down_proj.weight"), "model.layers.3.mlp.down_proj.weight");
  EXPECT_TRUE(is_linear_weight("model.layers.3.mlp.down_proj.weight"));
  EXPECT_TRUE(is_linear_weight("model.layers.0.self_attn.o_proj.weight"));
  EXPECT_FALSE(is_linear_weight("model.layers.0.self_attn.o_proj.bias"));
  EXPECT_FALSE(is_linear_weight("model.layers.0.self_attn.q_norm.weight"));
  EXPECT_FALSE(is_linear_weight("lm_head.weight"));
  int64_t linears = 0;
  for (const ParameterInfo& p : all) linears += is_linear_weight(p.name);
  EXPECT_EQ(linears, 7 * 7);
}

TEST(Parameters, AbsurdSizesDoNotOverflow) {
  ModelSpec spec = golden_spec("llama");
  spec.vocab = spec.hidden = spec.head_size = spec.layers[0].heads = 2147483647;
  EXPECT_EQ(parameter_count(spec), std::numeric_limits<int64_t>::max());
}

TEST(Parameters, FlopsOfAForward) {
  const ModelSpec spec = golden_spec("llama");
  // Two FLOPs a weight and token, the embedding's lookup free, the head counted; scores and values over (1 + T) / 2 keys a query.
  const double weights = static_cast<double>(parameter_count(spec)) - 320 * 64 - 7 * 64;
  const double attention = 3 * 4.0 * 64 * (10 + 1) / 2;
  EXPECT_DOUBLE_EQ(forward_flops(spec, 30, 10), 30 * (2 * weights + attention));
  ModelSpec tied = spec;
  tied.tied = true;
  EXPECT_DOUBLE_EQ(forward_flops(tied, 30, 10), forward_flops(spec, 30, 10));
  ModelSpec narrow = spec;
  for (LayerSpec& layer : narrow.layers) layer.window = 1;
  EXPECT_DOUBLE_EQ(forward_flops(narrow, 30, 10), 30 * (2 * weights + 3 * 4.0 * 64));
}

TEST(ModelConfigs, MakeASpec) {
  ModelConfig config;
  const ModelSpec spec = spec_from_model_config(config, 1024);
  EXPECT_EQ(spec.head_size, 64);
  EXPECT_EQ(spec.layers.size(), 4u);
  EXPECT_EQ(spec.vocab, 1024);
  EXPECT_TRUE(spec_from_config(config_from_spec(spec, "float32"), "c") == spec);
  config.head_dim = 32;
  EXPECT_EQ(spec_from_model_config(config, 1024).head_size, 32);
}

TEST(ModelConfigs, FaultsComeTogether) {
  ModelConfig config;
  config.num_key_value_heads = 3;
  config.head_dim = 15;
  config.rope_theta = 0;
  config.model_type = "rwkv";
  try {
    spec_from_model_config(config, 1024);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.faults().size(), 4u) << error.what();
  }
  ModelConfig zero;
  zero.num_attention_heads = 0;
  zero.hidden_size = -5;
  zero.num_hidden_layers = int64_t{1} << 60;
  EXPECT_THROW(spec_from_model_config(zero, 0), Error);
}

}  // namespace
}  // namespace attar
