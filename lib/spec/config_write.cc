#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "spec/config_rope.h"
#include "spec/families.h"
#include "spec/model_spec.h"

namespace attar {
namespace {

/// query_pre_attn_scalar, a whole number wherever it is one within rounding: Hugging Face's class takes nothing else.
Json query_scalar(const ModelSpec& spec) {
  const double scalar = 1 / (spec.score_scale() * spec.score_scale()), whole = std::round(scalar);
  if (whole >= 1 && std::abs(scalar - whole) < 1e-9 * whole) return static_cast<int64_t>(whole);
  return scalar;
}

void write_windows(const ModelSpec& spec, Json& out) {
  int64_t window = 0, first = -1;
  Json types = Json::array();
  bool suffix = true;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    if (layer.window > 0) {
      if (window > 0 && window != layer.window)
        fail(str("window of layer ", i), str(window, ", as in the layers before"), str(layer.window), "config.json holds one window");
      window = layer.window;
      if (first < 0) first = static_cast<int64_t>(i);
    } else if (first >= 0) {
      suffix = false;
    }
    types.push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
  }
  Json width = nullptr;
  if (window > 0) width = window;
  const std::string& type = spec.family;
  if (type == "mistral" || type == "phi3") out["sliding_window"] = width;
  if (type == "qwen2" || type == "qwen3") {
    out["use_sliding_window"] = window > 0;
    out["sliding_window"] = width;
    out["max_window_layers"] = window > 0 && suffix ? first : static_cast<int64_t>(spec.layers.size());
    out["layer_types"] = types;
  }
  if (type == "gemma2" || type == "gemma3_text") {
    out["sliding_window"] = window > 0 ? window : 4096;
    out["layer_types"] = types;
  }
  if (type == "gemma3_text") {
    // Readers from before layer_types know a period only.
    for (int64_t period = 1; period <= static_cast<int64_t>(spec.layers.size()) + 1; ++period) {
      bool holds = true;
      for (size_t i = 0; i < spec.layers.size(); ++i)
        holds = holds && (spec.layers[i].window > 0) == ((static_cast<int64_t>(i) + 1) % period != 0);
      if (!holds) continue;
      out["sliding_window_pattern"] = period;
      break;
    }
  }
}

/// The spec as a reader of the file gets it back: ropes without fields that their kind ignores, defaults by name.
ModelSpec canonical(ModelSpec spec) {
  spec.rope = plain_rope(spec.rope, spec.head_size, spec.context);
  spec.local_rope = spec.family == "gemma3_text" ? plain_rope(spec.local_rope, spec.head_size, spec.context) : RopeSpec();
  // A scale goes through its square; compare what remains.
  const double scale = spec.score_scale(), scalar = 1 / (scale * scale);
  const double whole = std::round(scalar);
  spec.attention_scale = whole >= 1 && std::abs(scalar - whole) < 1e-9 * whole ? 1 / std::sqrt(whole) : scale;
  return spec;
}

/// Names the first thing that differs, for the error.
std::string difference(const ModelSpec& a, const ModelSpec& b) {
  if (a.layers != b.layers) return "its layers";
  if (!(a.rope == b.rope)) return "its rotary embedding";
  if (!(a.local_rope == b.local_rope)) return "its local rotary embedding";
  if (a.norm_offset != b.norm_offset || a.post_norms != b.post_norms || a.qk_norm != b.qk_norm) return "its norms";
  if (a.qkv_bias != b.qkv_bias || a.output_bias != b.output_bias || a.mlp_bias != b.mlp_bias) return "its biases";
  if (a.activation != b.activation) return "its activation " + a.activation;
  if (std::abs(a.attention_scale - b.attention_scale) > 1e-12 * a.attention_scale) return "its attention scale";
  if (a.embedding_scale != b.embedding_scale) return "its embedding scale";
  if (a.attention_softcap != b.attention_softcap || a.logit_softcap != b.logit_softcap) return "its soft caps";
  if (a.fused_projections != b.fused_projections) return "its fused projections";
  if (a.vocab != b.vocab || a.hidden != b.hidden || a.head_size != b.head_size || a.context != b.context) return "its sizes";
  if (a.norm_eps != b.norm_eps) return "its norms' epsilon";
  if (a.tied != b.tied) return "its tied embedding";
  if (a.bos != b.bos || a.pad != b.pad || a.eos != b.eos) return "its token ids";
  return "";
}

}  // namespace

Json config_from_spec(const ModelSpec& spec, const std::string& dtype) {
  const Family* family = find_family(spec.family);
  if (!family) fail("model family", "one with a mapping", spec.family, nearest_hint(spec.family, family_names()));
  check(!spec.layers.empty(), "model of family " + spec.family, "at least one layer", "none");
  int64_t ffn = 0, heads = 0, kv_heads = 0;
  for (const LayerSpec& layer : spec.layers) {
    ffn = std::max(ffn, layer.ffn);
    if (layer.heads > heads) {
      heads = layer.heads;
      kv_heads = layer.kv_heads;
    }
  }
  Json out = Json::object();
  out["architectures"] = {family->architecture};
  out["model_type"] = spec.family;
  out["vocab_size"] = spec.vocab;
  out["hidden_size"] = spec.hidden;
  out["intermediate_size"] = ffn;
  out["num_hidden_layers"] = spec.layers.size();
  out["num_attention_heads"] = heads;
  out["num_key_value_heads"] = kv_heads;
  out["head_dim"] = spec.head_size;
  const std::string act = spec.activation == "gelu_tanh" ? "gelu_pytorch_tanh" : spec.activation;
  out["hidden_act"] = act;
  if (family->gemma) out["hidden_activation"] = act;
  out["max_position_embeddings"] = spec.context;
  out["rms_norm_eps"] = spec.norm_eps;
  out["tie_word_embeddings"] = spec.tied;
  if (family->biases) out["attention_bias"] = spec.output_bias;
  if (spec.family == "llama") out["mlp_bias"] = spec.mlp_bias;
  if (spec.post_norms) {
    out["query_pre_attn_scalar"] = query_scalar(spec);
    auto cap = [&](const char* key, double value) { out[key] = value > 0 ? Json(value) : Json(nullptr); };
    cap("attn_logit_softcapping", spec.attention_softcap);
    cap("final_logit_softcapping", spec.logit_softcap);
  }
  write_windows(spec, out);
  write_ropes(spec, out);
  auto token = [&](const char* key, int64_t id) { out[key] = id >= 0 ? Json(id) : Json(nullptr); };
  token("bos_token_id", spec.bos);
  if (spec.eos.size() > 1) out["eos_token_id"] = spec.eos;
  else token("eos_token_id", spec.eos.empty() ? -1 : spec.eos.front());
  token("pad_token_id", spec.pad);
  if (!spec.uniform()) {
    Json widths = Json::array(), queries = Json::array(), keys = Json::array();
    for (const LayerSpec& layer : spec.layers) {
      widths.push_back(layer.ffn);
      queries.push_back(layer.heads);
      keys.push_back(layer.kv_heads);
    }
    out["attar_layers"] = {{"intermediate_size", widths}, {"num_attention_heads", queries}, {"num_key_value_heads", keys}};
  }
  out["torch_dtype"] = dtype;
  out["dtype"] = dtype;
  out["use_cache"] = true;

  // What the family's keys cannot say must not be lost in silence.
  const std::string lost = difference(canonical(spec), canonical(spec_from_config(out, "config.json")));
  check(lost.empty(), "model of family " + spec.family, "what its config.json can say", lost);
  return out;
}

}  // namespace attar
