#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace attar {

/// How positions turn into angles. `dims` of a head are rotated, half against half (i with i + dims/2), the rest pass.
struct RopeSpec {
  std::string kind = "default";  ///< default, linear, llama3, yarn, longrope
  double theta = 10000;
  int64_t dims = 0;              ///< rotated dimensions of a head; 0: all
  double factor = 1;             ///< linear, llama3, yarn
  double low_frequency = 1, high_frequency = 4;  ///< llama3
  int64_t original_context = 0;                  ///< llama3, yarn, longrope
  double beta_fast = 32, beta_slow = 1;          ///< yarn
  bool truncate = true;                          ///< yarn: round the ramp's ends to whole dimensions
  double attention_factor = 0;                   ///< yarn, longrope: times cos and sin; 0: the kind's own default
  std::vector<double> long_factor, short_factor; ///< longrope, dims/2 each
  bool operator==(const RopeSpec&) const = default;
};

/// What may differ from layer to layer.
struct LayerSpec {
  int64_t ffn = 0;         ///< F
  int64_t heads = 0;       ///< H
  int64_t kv_heads = 0;    ///< K
  int64_t window = 0;      ///< a query sees itself and window-1 positions before; 0: all
  bool local_rope = false; ///< uses ModelSpec::local_rope
  bool operator==(const LayerSpec&) const = default;
};

/// A decoder as facts: everything that changes its forward pass, independent of family names.
struct ModelSpec {
  std::string family = "llama";  ///< Hugging Face model_type: llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text, phi3
  int64_t vocab = 0, hidden = 0, head_size = 0, context = 0;
  std::vector<LayerSpec> layers;
  double norm_eps = 1e-5;
  bool norm_offset = false;      ///< Gemma: y = x_norm * (1 + w)
  bool post_norms = false;       ///< Gemma 2 and 3: a norm after attention and after the MLP too
  bool qk_norm = false;          ///< RMSNorm over the head on q and k before RoPE
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  std::string activation = "silu";  ///< silu, gelu_tanh, gelu
  bool tied = false;             ///< output matrix = embedding
  bool fused_projections = false;  ///< Phi-3's checkpoint has qkv_proj and gate_up_proj; split on load
  double attention_scale = 0;    ///< of the scores; 0: head_size^-0.5
  double embedding_scale = 1;
  double attention_softcap = 0, logit_softcap = 0;  ///< 0: none
  RopeSpec rope, local_rope;
  int64_t bos = -1, pad = -1;    ///< token ids, -1: none
  std::vector<int64_t> eos;
  bool operator==(const ModelSpec&) const = default;

  bool uniform() const;          ///< every layer has the same ffn, heads and kv_heads
  double score_scale() const;    ///< attention_scale or its default
  int64_t rope_dims(const RopeSpec& r) const { return r.dims ? r.dims : head_size; }
};

/// Hugging Face's config.json, old style (rope_theta, rope_scaling) and new (rope_parameters). Unknown architecture or rope type: Error.
/// `file` stands in errors.
ModelSpec spec_from_config(const Json& config, const std::string& file);
/// config.json that transformers loads (both rope styles are written). Per-layer widths are written as lists under `attar_layers`.
Json config_from_spec(const ModelSpec& spec, const std::string& dtype);

/// One parameter by Hugging Face's name (fused ones already split), in a fixed order.
struct ParameterInfo {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<ParameterInfo> parameters_of(const ModelSpec& spec);
int64_t parameter_count(const ModelSpec& spec);
/// FLOPs of one forward pass over `tokens` in sequences of `seq` (2 per multiply-add; head included).
double forward_flops(const ModelSpec& spec, int64_t tokens, int64_t seq);

/// rot/2 inverse frequencies (radians per position) and the factor on cos and sin, for sequences of `length` positions.
struct RopeTable {
  std::vector<double> inverse_frequency;
  double magnitude = 1;
};
RopeTable rope_table(const RopeSpec& rope, int64_t dims, int64_t length, int64_t max_context);

/// Names of a layer's parameters: layer_name(3, "mlp.down_proj.weight") -> "model.layers.3.mlp.down_proj.weight".
std::string layer_name(int64_t layer, const std::string& rest);
/// The two-dimensional weights that quantization and masks work on (linears; embedding and output are named apart).
bool is_linear_weight(const std::string& name);

}  // namespace attar
