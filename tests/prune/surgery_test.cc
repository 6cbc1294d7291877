#include "prune/surgery.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "model/decoder.h"
#include "prune/prune.h"
#include "spec/pruned_spec.h"

namespace attar {
namespace {

constexpr const char* kFamilies[] = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3"};

/// A small model of a family: everything that its forward pass has and others lack.
ModelSpec family_spec(const std::string& family) {
  ModelSpec s;
  s.family = family;
  s.vocab = 40, s.hidden = 32, s.head_size = 6, s.context = 64;
  s.layers.assign(4, LayerSpec{.ffn = 48, .heads = 6, .kv_heads = 2});
  const bool gemma = family.starts_with("gemma");
  s.tied = gemma || family == "qwen3";
  s.norm_offset = gemma;
  if (gemma) s.embedding_scale = std::sqrt(32.0), s.activation = "gelu_tanh";
  if (family == "gemma2") s.attention_softcap = 50, s.logit_softcap = 30;
  if (family == "gemma2" || family == "gemma3_text") {
    s.post_norms = true;
    s.attention_scale = 0.3;
    for (size_t i = 0; i < 4; i += 2) s.layers[i].window = 5;
  }
  if (family == "gemma3_text")
    for (size_t i = 0; i < 4; i += 2) s.layers[i].local_rope = true;
  s.qk_norm = family == "qwen3" || family == "gemma3_text";
  s.qkv_bias = family == "qwen2" || family == "llama";
  s.output_bias = s.mlp_bias = family == "llama";
  s.fused_projections = family == "phi3";
  return s;
}

Checkpoint redrawn(const ModelSpec& spec) {
  Checkpoint model;
  model.spec = spec;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  for (const ParameterInfo& p : parameters_of(spec)) {
    const double mean = p.shape.size() == 1 && p.name.ends_with("norm.weight") && !spec.norm_offset ? 1.0 : 0.0;
    model.weights[p.name] = at::randn(p.shape, generator, at::kDouble) * 0.3 + mean;
  }
  return model;
}

at::Tensor logits_of(const Checkpoint& model) {
  const at::Tensor ids = at::arange(24, at::kLong).view({2, 12}) % 40;
  const Decoder decoder(model.spec, model.weights);
  // Straight in the weights' own precision: Decoder::logits() gives float32.
  const at::Tensor hidden = decoder.hidden({ids, {}, {}, {}});
  at::Tensor scores = at::linear(hidden, decoder.output_weight());
  if (model.spec.logit_softcap > 0) scores = at::tanh(scores / model.spec.logit_softcap) * model.spec.logit_softcap;
  return scores;
}

void zero_rows(Checkpoint& model, const std::string& module, const at::Tensor& rows) {
  model.weights.at(module + ".weight").index_fill_(0, rows, 0);
  if (const auto bias = model.weights.find(module + ".bias"); bias != model.weights.end()) bias->second.index_fill_(0, rows, 0);
}
void zero_columns(Checkpoint& model, const std::string& module, const at::Tensor& columns) {
  model.weights.at(module + ".weight").index_fill_(1, columns, 0);
}
at::Tensor indices(std::vector<int64_t> values) { return at::tensor(values, at::kLong); }

/// Makes a part of `model` zero everywhere and gives the shares that take just it away.
PruneConfig silence(Checkpoint& model, const std::string& axis) {
  PruneConfig config;
  config.criterion = "magnitude", config.multiple = 4, config.protect = 1;
  const int64_t d = model.spec.head_size;
  const auto channels = [&](std::vector<int64_t> heads) {
    std::vector<int64_t> all;
    for (int64_t h : heads)
      for (int64_t i = 0; i < d; ++i) all.push_back(h * d + i);
    return indices(all);
  };
  for (int64_t layer = 0; layer < 4; ++layer) {
    const std::string own = layer_name(layer, "");
    if (axis == "ffn") {
      std::vector<int64_t> gone;
      for (int64_t c = layer % 4; c < 48; c += 4) gone.push_back(c);
      for (const char* module : {"mlp.gate_proj", "mlp.up_proj"}) zero_rows(model, own + module, indices(gone));
      zero_columns(model, own + "mlp.down_proj", indices(gone));
      config.ffn = 0.75;
    } else if (axis == "heads") {  // one of three in each group
      const at::Tensor gone = channels({layer % 3, 3 + (layer + 1) % 3});
      zero_rows(model, own + "self_attn.q_proj", gone);
      zero_columns(model, own + "self_attn.o_proj", gone);
      config.heads = 0.667;
    } else if (axis == "kv_heads") {
      const int64_t group = layer % 2;
      const at::Tensor gone = channels({3 * group, 3 * group + 1, 3 * group + 2});
      zero_rows(model, own + "self_attn.q_proj", gone);
      zero_columns(model, own + "self_attn.o_proj", gone);
      for (const char* module : {"self_attn.k_proj", "self_attn.v_proj"}) zero_rows(model, own + module, channels({group}));
      config.kv_heads = 0.5;
    } else if (axis == "hidden") {
      const at::Tensor gone = indices({1, 2, 7, 12, 13, 20, 29, 31});
      for (const char* module : {"self_attn.o_proj", "mlp.down_proj"}) zero_rows(model, own + module, gone);
      for (const char* module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"})
        zero_columns(model, own + module, gone);
      config.hidden = 0.75;
    } else if (axis == "depth" && (layer == 1 || layer == 2)) {
      const at::Tensor all = at::arange(32, at::kLong);
      for (const char* module : {"self_attn.o_proj", "mlp.down_proj"}) zero_rows(model, own + module, all);
      for (const char* module : {"self_attn.q_proj", "mlp.gate_proj"}) model.weights.at(own + module + ".weight").mul_(0.01);
      config.depth = 0.5;
    }
  }
  if (axis == "hidden") {
    const at::Tensor gone = indices({1, 2, 7, 12, 13, 20, 29, 31});
    zero_columns(model, "model.embed_tokens", gone);
    if (!model.spec.tied) zero_columns(model, "lm_head", gone);
  }
  return config;
}

class Surgery : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(Surgery, WhatIsZeroEverywhereIsNotMissed) {
  const auto [family, axis] = GetParam();
  Checkpoint model = redrawn(family_spec(family));
  const PruneConfig config = silence(model, axis);
  Json report;
  const auto group = single_process();
  const Checkpoint small = prune(model, config, {}, 0, *group, report);
  EXPECT_LT(parameter_count(small.spec), parameter_count(model.spec));
  EXPECT_EQ(parameter_count(small.spec), parameter_count(pruned_spec(model.spec, config)));
  const at::Tensor before = logits_of(model), after = logits_of(small);
  EXPECT_GT(before.std().item<double>(), 1e-2);
  EXPECT_LT((before - after).abs().max().item<double>(), 1e-9);

  Checkpoint single = model;
  for (auto& [name, tensor] : single.weights) tensor = tensor.to(at::kFloat);
  const Checkpoint single_small = prune(single, config, {}, 0, *group, report);
  const at::Tensor wide = logits_of(single), narrow = logits_of(single_small);
  EXPECT_LT((wide - narrow).abs().max().item<double>(), 1e-5 * wide.abs().max().item<double>());
}

INSTANTIATE_TEST_SUITE_P(AllFamilies, Surgery,
                         ::testing::Combine(::testing::ValuesIn(kFamilies), ::testing::Values("ffn", "heads", "kv_heads", "hidden", "depth")),
                         [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

/// Not a property of zeros alone: what is left computes with the very weights that were kept.
TEST(SurgeryRows, KeepsTheNamedRowsAndColumns) {
  const Checkpoint model = redrawn(family_spec("llama"));
  Kept kept = kept_whole(model.spec);
  kept.layers = {kept.layers[0], kept.layers[3]};
  kept.layers[1].kv_heads = indices({1});
  kept.layers[1].heads = indices({3, 5});
  const Checkpoint small = cut(model, kept);
  EXPECT_EQ(small.spec.layers.size(), 2u);
  EXPECT_EQ(small.spec.layers[1].heads, 2);
  const at::Tensor q = model.weights.at(layer_name(3, "self_attn.q_proj.weight"));
  EXPECT_TRUE(at::equal(small.weights.at(layer_name(1, "self_attn.q_proj.weight")), at::cat({q.slice(0, 18, 24), q.slice(0, 30, 36)})));
  const at::Tensor o = model.weights.at(layer_name(3, "self_attn.o_proj.weight"));
  EXPECT_TRUE(at::equal(small.weights.at(layer_name(1, "self_attn.o_proj.weight")), at::cat({o.slice(1, 18, 24), o.slice(1, 30, 36)}, 1)));
  EXPECT_TRUE(
      at::equal(small.weights.at(layer_name(1, "self_attn.k_proj.bias")), model.weights.at(layer_name(3, "self_attn.k_proj.bias")).slice(0, 6, 12)));
  EXPECT_TRUE(at::equal(small.weights.at(layer_name(1, "input_layernorm.weight")), model.weights.at(layer_name(3, "input_layernorm.weight"))));
}

TEST(SurgeryRows, UnevenGroupsAreRefused) {
  const Checkpoint model = redrawn(family_spec("llama"));
  Kept kept = kept_whole(model.spec);
  kept.layers[0].heads = indices({0, 1, 3});
  EXPECT_THROW(cut(model, kept), Error);
}

}  // namespace
}  // namespace attar
