#include "spec/gguf_names.h"

#include <cmath>

#include "base/check.h"

namespace attar {

int64_t permuted_row(int64_t row, int64_t head_size) { return row / 2 + (row % 2) * (head_size / 2); }

std::vector<GgufMapping> gguf_mapping(const ModelSpec& spec) {
  const bool interleaved = spec.family == "llama" || spec.family == "mistral";  // both are architecture llama
  const bool fused = spec.family == "phi3";
  std::vector<GgufMapping> all;
  all.push_back({"token_embd.weight", {"model.embed_tokens.weight"}, 0, false, true});
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    const std::string block = "blk." + std::to_string(i) + ".";
    auto hf = [&](const std::string& rest) { return layer_name(static_cast<int64_t>(i), rest); };
    auto norm = [&](const char* gguf, const char* source) { all.push_back({block + gguf, {hf(source)}, 0, spec.norm_offset, false}); };
    auto linear = [&](const char* gguf, const char* source, bool bias, int64_t permuted) {
      all.push_back({block + gguf + ".weight", {hf(std::string(source) + ".weight")}, permuted, false, true});
      if (bias) all.push_back({block + gguf + ".bias", {hf(std::string(source) + ".bias")}, permuted, false, false});
    };
    norm("attn_norm.weight", "input_layernorm.weight");
    if (fused) {
      all.push_back({block + "attn_qkv.weight",
                     {hf("self_attn.q_proj.weight"), hf("self_attn.k_proj.weight"), hf("self_attn.v_proj.weight")}, 0, false, true});
    } else {
      linear("attn_q", "self_attn.q_proj", spec.qkv_bias, interleaved ? layer.heads : 0);
      linear("attn_k", "self_attn.k_proj", spec.qkv_bias, interleaved ? layer.kv_heads : 0);
      linear("attn_v", "self_attn.v_proj", spec.qkv_bias, 0);
    }
    if (spec.qk_norm) {
      norm("attn_q_norm.weight", "self_attn.q_norm.weight");
      norm("attn_k_norm.weight", "self_attn.k_norm.weight");
    }
    linear("attn_output", "self_attn.o_proj", spec.output_bias, 0);
    if (spec.post_norms) {
      norm("post_attention_norm.weight", "post_attention_layernorm.weight");
      norm("ffn_norm.weight", "pre_feedforward_layernorm.weight");
    } else {
      norm("ffn_norm.weight", "post_attention_layernorm.weight");
    }
    if (fused) {
      all.push_back({block + "ffn_up.weight", {hf("mlp.gate_proj.weight"), hf("mlp.up_proj.weight")}, 0, false, true});
    } else {
      linear("ffn_gate", "mlp.gate_proj", spec.mlp_bias, 0);
      linear("ffn_up", "mlp.up_proj", spec.mlp_bias, 0);
    }
    linear("ffn_down", "mlp.down_proj", spec.mlp_bias, 0);
    if (spec.post_norms) norm("post_ffw_norm.weight", "post_feedforward_layernorm.weight");
  }
  all.push_back({"output_norm.weight", {"model.norm.weight"}, 0, spec.norm_offset, false});
  if (!spec.tied) all.push_back({"output.weight", {"lm_head.weight"}, 0, false, true});
  return all;
}

std::vector<ComputedTensor> gguf_rope_tensors(const ModelSpec& spec) {
  const RopeSpec& rope = spec.rope;
  std::vector<ComputedTensor> all;
  if (rope.kind == "llama3") {
    // llama.cpp divides the angle by these; the file has no other trace of this kind.
    const double two_pi = 2 * std::acos(-1.0), original = static_cast<double>(rope.original_context);
    const int64_t dims = spec.rope_dims(rope);
    ComputedTensor factors{"rope_freqs.weight", {}};
    for (int64_t i = 0; i < dims; i += 2) {
      const double wave = two_pi * std::pow(rope.theta, static_cast<double>(i) / static_cast<double>(dims));
      double value = 1;
      if (wave > original / rope.low_frequency) {
        value = rope.factor;
      } else if (wave >= original / rope.high_frequency) {
        const double share = (original / wave - rope.low_frequency) / (rope.high_frequency - rope.low_frequency);
        value = 1 / ((1 - share) / rope.factor + share);
      }
      factors.values.push_back(static_cast<float>(value));
    }
    all.push_back(std::move(factors));
  } else if (rope.kind == "longrope") {
    all.push_back({"rope_factors_long.weight", {rope.long_factor.begin(), rope.long_factor.end()}});
    all.push_back({"rope_factors_short.weight", {rope.short_factor.begin(), rope.short_factor.end()}});
  }
  return all;
}

}  // namespace attar
