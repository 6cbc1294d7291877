#include "base/check.h"
#include "spec/golden_cases.h"

namespace attar {
namespace {

/// The message of the Error that reading `config` throws, "" if it throws none.
std::string config_error(const Json& config) {
  try {
    spec_from_config(config, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// A recorded configuration with keys replaced (null removes none: it stays null).
Json changed(const std::string& name, const Json& changes, const char* style = "new") {
  Json config = golden_case(name).at(style);
  config.update(changes);
  return config;
}

class GoldenConfig : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenConfig, OldAndNewStyleSayTheSame) {
  const Json& one = golden_case(GetParam());
  EXPECT_TRUE(spec_from_config(one.at("old"), "old") == spec_from_config(one.at("new"), "new"));
}

TEST_P(GoldenConfig, ComesBackFromItsOwnFile) {
  const ModelSpec spec = golden_spec(GetParam());
  const Json written = parse_json(config_from_spec(spec, "bfloat16").dump(), "written");
  EXPECT_TRUE(spec_from_config(written, "written") == spec);
  EXPECT_EQ(written.at("torch_dtype"), "bfloat16");
  EXPECT_EQ(written.at("dtype"), "bfloat16");
  EXPECT_EQ(written.at("architectures"), golden_case(GetParam()).at("new").at("architectures"));
}

TEST_P(GoldenConfig, NewStyleAloneAndOldStyleAloneComeBackToo) {
  const ModelSpec spec = golden_spec(GetParam());
  Json fresh = config_from_spec(spec, "float32"), old = fresh;
  for (const char* key : {"rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor"}) fresh.erase(key);
  for (const char* key : {"rope_parameters", "layer_types"}) old.erase(key);
  EXPECT_TRUE(spec_from_config(fresh, "new keys") == spec);
  EXPECT_TRUE(spec_from_config(old, "old keys") == spec);
}

TEST_P(GoldenConfig, PerLayerWidthsAreKept) {
  ModelSpec spec = golden_spec(GetParam());
  spec.layers[1].ffn = 64;
  spec.layers[2].heads = spec.layers[2].kv_heads;
  const Json written = config_from_spec(spec, "float32");
  EXPECT_EQ(written.at("intermediate_size"), 96);
  EXPECT_EQ(written.at("attar_layers").at("intermediate_size").at(1), 64);
  EXPECT_TRUE(spec_from_config(written, "written") == spec);
}

TEST_P(GoldenConfig, LayerTypesAreTransformers) {
  const Json& types = golden_case(GetParam()).at("layer_types");
  if (types.is_null()) return;
  const ModelSpec spec = golden_spec(GetParam());
  ASSERT_EQ(types.size(), spec.layers.size());
  for (size_t i = 0; i < types.size(); ++i) EXPECT_EQ(types[i] == "sliding_attention", spec.layers[i].window > 0) << i;
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenConfig, ::testing::ValuesIn(golden_names()), [](const auto& info) { return info.param; });

TEST(ConfigJson, FamiliesDifferWhereTheyShould) {
  const ModelSpec gemma = golden_spec("gemma"), gemma2 = golden_spec("gemma2"), gemma3 = golden_spec("gemma3");
  EXPECT_TRUE(gemma.norm_offset && gemma.tied && !gemma.post_norms && !gemma.qk_norm);
  EXPECT_EQ(gemma.embedding_scale, 8.0);
  EXPECT_EQ(gemma.activation, "gelu_tanh");
  EXPECT_TRUE(gemma2.post_norms && !gemma2.qk_norm);
  EXPECT_EQ(gemma2.attention_softcap, 50);
  EXPECT_EQ(gemma2.logit_softcap, 30);
  EXPECT_DOUBLE_EQ(gemma2.score_scale(), 1 / std::sqrt(48.0));
  EXPECT_EQ(gemma2.layers[0].window, 16);
  EXPECT_EQ(gemma2.layers[1].window, 0);
  EXPECT_TRUE(gemma3.qk_norm && gemma3.layers[0].local_rope && !gemma3.layers[5].local_rope);
  EXPECT_EQ(gemma3.rope.kind, "linear");
  EXPECT_EQ(gemma3.local_rope.kind, "default");
  EXPECT_EQ(gemma3.attention_softcap, 0);
  const ModelSpec qwen2 = golden_spec("qwen2"), qwen3 = golden_spec("qwen3"), phi = golden_spec("phi3_partial");
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.output_bias);
  EXPECT_TRUE(qwen3.qk_norm && !qwen3.qkv_bias);
  EXPECT_TRUE(phi.fused_projections && phi.tied);
  EXPECT_EQ(phi.rope.dims, 24);
  EXPECT_EQ(golden_spec("mistral").layers[2].window, 16);
  EXPECT_EQ(golden_spec("mistral_full").layers[2].window, 0);
  EXPECT_EQ(golden_spec("llama3").eos, (std::vector<int64_t>{2, 3}));
}

TEST(ConfigJson, NestedTextConfigOfGemma3) {
  Json outer = {{"model_type", "gemma3"}, {"architectures", {"Gemma3ForConditionalGeneration"}}, {"eos_token_id", {1, 106}}};
  outer["text_config"] = {{"hidden_size", 64}, {"intermediate_size", 96}, {"num_hidden_layers", 8}, {"sliding_window", 16},
                          {"model_type", "gemma3_text"}, {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}}};
  const ModelSpec spec = spec_from_config(outer, "config.json");
  EXPECT_EQ(spec.family, "gemma3_text");
  EXPECT_EQ(spec.vocab, 262208);
  EXPECT_EQ(spec.head_size, 256);
  EXPECT_EQ(spec.eos, (std::vector<int64_t>{1, 106}));
  EXPECT_EQ(spec.layers[5].window, 0);
  EXPECT_EQ(spec.layers[6].window, 16);
}

TEST(ConfigJson, GemmaActivationsLegacyNames) {
  EXPECT_EQ(spec_from_config(changed("gemma", {{"hidden_act", "gelu"}}), "c").activation, "gelu_tanh");
  EXPECT_EQ(spec_from_config(changed("gemma", {{"hidden_act", "gelu"}, {"hidden_activation", nullptr}}), "c").activation, "gelu_tanh");
  EXPECT_EQ(spec_from_config(changed("gemma2", {{"hidden_activation", "gelu"}}), "c").activation, "gelu");
}

TEST(ConfigJson, PhiOldNamesOfLongrope) {
  Json config = golden_case("phi3_longrope").at("old");
  config["rope_scaling"]["type"] = "su";
  EXPECT_TRUE(spec_from_config(config, "c") == golden_spec("phi3_longrope"));
}

TEST(ConfigJson, RefusesByName) {
  struct Refused { const char* name; Json changes; const char* word; };
  const std::vector<Refused> all = {
      {"llama", {{"model_type", "mamba"}}, "mamba"},
      {"llama", {{"model_type", "lama"}}, "did you mean 'llama'"},
      {"llama", {{"architectures", {"LlamaForSequenceClassification"}}}, "LlamaForSequenceClassification"},
      {"llama", {{"hidden_act", "relu2"}}, "relu2"},
      {"llama", {{"rope_parameters", {{"rope_type", "dynamic"}, {"factor", 2.0}}}}, "dynamic"},
      {"llama", {{"rope_parameters", {{"rope_type", "wobble"}}}}, "wobble"},
      {"llama", {{"rope_parameters", {{"rope_type", "linear"}}}}, "factor"},
      {"llama", {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}}}, "partial_rotary_factor"},
      {"llama", {{"quantization_config", {{"quant_method", "gptq"}}}}, "quantization_config"},
      {"llama", {{"num_key_value_heads", 3}}, "num_key_value_heads"},
      {"llama", {{"hidden_size", 0}}, "hidden_size"},
      {"llama", {{"num_hidden_layers", 1e18}}, "num_hidden_layers"},
      {"llama", {{"hidden_size", "64"}}, "hidden_size"},
      {"llama", {{"rms_norm_eps", -1}}, "rms_norm_eps"},
      {"llama", {{"head_dim", 15}}, "head_dim"},
      {"llama", {{"rope_scaling", 5}}, "rope_scaling"},
      {"llama", {{"num_local_experts", 8}}, "num_local_experts"},
      {"llama", {{"logits_scaling", 8.0}}, "logits_scaling"},
      {"mistral", {{"attention_bias", true}}, "attention_bias"},
      {"qwen3", {{"layer_types", {"full_attention", "linear_attention", "full_attention"}}}, "linear_attention"},
      {"qwen3", {{"layer_types", {"full_attention"}}}, "layer_types"},
      {"gemma", {{"use_bidirectional_attention", true}}, "use_bidirectional_attention"},
      {"gemma2", {{"sliding_window", nullptr}}, "sliding_window"},
      {"gemma3", {{"attn_logit_softcapping", 50.0}}, "attn_logit_softcapping"},
      {"phi3_longrope", {{"rope_parameters", {{"rope_type", "longrope"}, {"long_factor", {1.0}}, {"short_factor", {1.0}}}}}, "long_factor"},
      {"llama3",
       {{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 4.0}, {"high_freq_factor", 4.0}}}},
       "high_freq_factor"},
  };
  for (const Refused& one : all) {
    const std::string error = config_error(changed(one.name, one.changes));
    EXPECT_NE(error.find(one.word), std::string::npos) << one.changes.dump() << " gave: " << error;
  }
  EXPECT_NE(config_error(Json::array()), "");
  EXPECT_NE(config_error(Json::object()), "");
  EXPECT_NE(config_error({{"model_type", "gemma3"}, {"text_config", 4}}), "");
  EXPECT_NE(config_error({{"model_type", 4}}), "");
}

TEST(ConfigJson, AllFaultsOfAFileAreReportedTogether) {
  try {
    spec_from_config(changed("llama", {{"hidden_size", 0}, {"hidden_act", "relu"}, {"vocab_size", nullptr}}), "config.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.faults().size(), 3u);
  }
}

TEST(ConfigJson, HostileValuesGiveErrorsOnly) {
  const std::vector<Json> values = {nullptr, true, -1, 0, 1, 3, 1e300, -1e300, 9223372036854775807, 18446744073709551615u, 0.5, "text", "",
                                    Json::array(), Json::object(), {1, 2, 3}, {"a", nullptr},
                                    {{"rope_type", "yarn"}}, {{"full_attention", 3}}, 1e-320};
  int refused = 0, taken = 0;
  auto attempt = [&](const Json& config) {
    try {
      const ModelSpec spec = spec_from_config(config, "c");
      ++taken;
      if (spec.layers.size() < 100 && spec.rope_dims(spec.rope) < 10000) rope_table(spec.rope, spec.rope_dims(spec.rope), 100, spec.context);
    } catch (const Error&) {
      ++refused;
    }
  };
  for (const Json& one : golden_cases()) {
    for (const char* style : {"old", "new"}) {
      const Json config = one.at(style);
      for (const auto& [key, old] : config.items()) {
        for (const Json& value : values) {
          Json changed = config;
          changed[key] = value;
          attempt(changed);
          if (!old.is_object()) continue;
          for (const auto& [inner, inner_old] : old.items()) {
            changed[key] = old;
            changed[key][inner] = value;
            attempt(changed);
          }
        }
      }
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(taken, 1000);
}

TEST(ConfigJson, WhatAFileCannotSayIsRefused) {
  auto refused = [](const std::string& name, auto&& change, const char* word) {
    ModelSpec spec = golden_spec(name);
    change(spec);
    try {
      config_from_spec(spec, "float32");
      ADD_FAILURE() << name << ": " << word;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refused("llama", [](ModelSpec& s) { s.layers[0].window = 8; }, "layers");
  refused("llama", [](ModelSpec& s) { s.qkv_bias = true; }, "biases");
  refused("llama", [](ModelSpec& s) { s.qk_norm = true; }, "norms");
  refused("qwen2", [](ModelSpec& s) { s.attention_scale = 0.3; }, "attention scale");
  refused("gemma", [](ModelSpec& s) { s.embedding_scale = 1; }, "embedding scale");
  refused("gemma2", [](ModelSpec& s) { s.layers[2].window = 9; }, "window of layer 2");
  refused("llama", [](ModelSpec& s) { s.family = "falcon"; }, "falcon");
}

}  // namespace
}  // namespace attar
