#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "spec/model_spec.h"

namespace attar {

bool ModelSpec::uniform() const {
  return std::all_of(layers.begin(), layers.end(), [&](const LayerSpec& l) {
    return l.ffn == layers.front().ffn && l.heads == layers.front().heads && l.kv_heads == layers.front().kv_heads;
  });
}

double ModelSpec::score_scale() const { return attention_scale > 0 ? attention_scale : 1 / std::sqrt(static_cast<double>(head_size)); }

std::string layer_name(int64_t layer, const std::string& rest) { return "model.layers." + std::to_string(layer) + "." + rest; }

bool is_linear_weight(const std::string& name) {
  static const std::array<const char*, 7> kEnds = {".self_attn.q_proj.weight", ".self_attn.k_proj.weight", ".self_attn.v_proj.weight",
                                                   ".self_attn.o_proj.weight", ".mlp.gate_proj.weight",    ".mlp.up_proj.weight",
                                                   ".mlp.down_proj.weight"};
  return std::any_of(kEnds.begin(), kEnds.end(), [&](const char* end) { return name.ends_with(end); });
}

std::vector<ParameterInfo> parameters_of(const ModelSpec& spec) {
  std::vector<ParameterInfo> all;
  const int64_t D = spec.hidden, d = spec.head_size;
  all.push_back({"model.embed_tokens.weight", {spec.vocab, D}});
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    const int64_t q = layer.heads * d, kv = layer.kv_heads * d, F = layer.ffn;
    auto add = [&](const char* rest, std::vector<int64_t> shape) { all.push_back({layer_name(static_cast<int64_t>(i), rest), std::move(shape)}); };
    auto linear = [&](const char* module, int64_t out, int64_t in, bool bias) {
      add((std::string(module) + ".weight").c_str(), {out, in});
      if (bias) add((std::string(module) + ".bias").c_str(), {out});
    };
    add("input_layernorm.weight", {D});
    linear("self_attn.q_proj", q, D, spec.qkv_bias);
    linear("self_attn.k_proj", kv, D, spec.qkv_bias);
    linear("self_attn.v_proj", kv, D, spec.qkv_bias);
    linear("self_attn.o_proj", D, q, spec.output_bias);
    if (spec.qk_norm) {
      add("self_attn.q_norm.weight", {d});
      add("self_attn.k_norm.weight", {d});
    }
    add("post_attention_layernorm.weight", {D});
    if (spec.post_norms) {
      add("pre_feedforward_layernorm.weight", {D});
      add("post_feedforward_layernorm.weight", {D});
    }
    linear("mlp.gate_proj", F, D, spec.mlp_bias);
    linear("mlp.up_proj", F, D, spec.mlp_bias);
    linear("mlp.down_proj", D, F, spec.mlp_bias);
  }
  all.push_back({"model.norm.weight", {D}});
  if (!spec.tied) all.push_back({"lm_head.weight", {spec.vocab, D}});
  return all;
}

int64_t parameter_count(const ModelSpec& spec) {
  // A hostile file may claim sizes whose product no integer holds: the largest number then stands for it.
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  int64_t total = 0;
  for (const ParameterInfo& p : parameters_of(spec)) {
    int64_t count = 1;
    for (int64_t size : p.shape)
      if (__builtin_mul_overflow(count, size, &count)) return kLargest;
    if (__builtin_add_overflow(total, count, &total)) return kLargest;
  }
  return total;
}

double forward_flops(const ModelSpec& spec, int64_t tokens, int64_t seq) {
  // Weights: every matrix row meets every token once. The embedding is a lookup; the head is a product even when tied.
  double per_token = 2.0 * static_cast<double>(spec.vocab) * static_cast<double>(spec.hidden);
  for (const LayerSpec& layer : spec.layers) {
    const double D = static_cast<double>(spec.hidden), d = static_cast<double>(spec.head_size);
    const double heads = static_cast<double>(layer.heads), kv = static_cast<double>(layer.kv_heads);
    per_token += 2 * D * d * (2 * heads + 2 * kv) + 2 * 3 * D * static_cast<double>(layer.ffn);
    // Attention: a query at position t meets min(t + 1, window) keys, once for the scores and once for the values.
    const int64_t reach = layer.window > 0 ? std::min(layer.window, seq) : seq;
    const double full = static_cast<double>(reach), rows = static_cast<double>(seq);
    const double mean_keys = seq > 0 ? (full * (full + 1) / 2 + (rows - full) * full) / rows : 0;
    per_token += 2 * 2 * heads * d * mean_keys;
  }
  return per_token * static_cast<double>(tokens);
}

}  // namespace attar
