#include <algorithm>
#include <cmath>

#include "spec/config_reader.h"
#include "spec/config_rope.h"
#include "spec/families.h"
#include "spec/model_spec.h"

namespace attar {
namespace {

bool ends_lower(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && std::equal(end.rbegin(), end.rend(), text.rbegin(), [](char a, char b) {
           return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
         });
}

/// The family by model_type or, in files that lack it, by the class in `architectures`; refused by name when not known.
const Family& family_of(const Json& config, const std::string& file) {
  std::vector<Fault> faults;
  const ConfigReader reader(config, file, faults);
  std::string type = reader.text("model_type", "");
  std::string architecture;
  if (reader.has("architectures") && config.at("architectures").is_array() && !config.at("architectures").empty() &&
      config.at("architectures").front().is_string())
    architecture = config.at("architectures").front().get<std::string>();
  if (!faults.empty()) throw Error(faults);
  if (type.empty()) {
    for (const Family& family : families())
      if (architecture == family.architecture) type = family.model_type;
    if (type.empty()) fail(file + ": key 'model_type'", "one of the known families", "nothing", nearest_hint(architecture, family_names()));
  }
  const Family* family = find_family(type);
  if (!family) fail(file + ": key 'model_type'", "a family with a mapping", type, nearest_hint(type, family_names()));
  const bool multimodal = architecture == "Gemma3ForConditionalGeneration" && type == "gemma3_text";
  if (!architecture.empty() && !multimodal && !ends_lower(architecture, "forcausallm"))
    fail(file + ": key 'architectures'", family->architecture, architecture, "only decoders with a language model's head are read");
  return *family;
}

/// Settings that would change the forward pass and that no family here implements: they must be absent or neutral.
void refuse_foreign(const ConfigReader& config) {
  if (config.has("quantization_config"))
    config.wrong("quantization_config", "to be absent", "quantized weights", "export or save the model dequantized first");
  if (config.boolean("use_bidirectional_attention", false))
    config.wrong("use_bidirectional_attention", "false", "true", "only causal decoders are supported");
  struct Neutral { const char* key; double value; };
  for (const Neutral& n : {Neutral{"residual_multiplier", 1}, Neutral{"embedding_multiplier", 1}, Neutral{"logits_scaling", 1},
                           Neutral{"logit_scale", 1}})
    if (config.has(n.key) && config.number(n.key, n.value) != n.value) config.wrong(n.key, str(n.value), to_line(config.at(n.key)));
  for (const char* key : {"attention_multiplier", "clip_qkv", "no_rope_layers", "attention_chunk_size", "num_local_experts", "num_experts",
                          "per_layer_config"}) {
    if (!config.has(key)) continue;
    const Json& value = config.at(key);
    if (value.is_number() && value.get<double>() <= 1) continue;  // one expert or none is a plain layer
    config.wrong(key, "to be absent", to_line(value).substr(0, 60), "this setting changes the forward pass and is not supported");
  }
  for (const char* key : {"qk_layernorm", "use_qk_norm"})
    if (config.boolean(key, false)) config.wrong(key, "false", "true", "this setting is not supported");
}

std::string read_activation(const ConfigReader& config, const Family& family) {
  const std::string type = family.model_type;
  std::string key = "hidden_act", name = config.text("hidden_act", family.gemma ? "gelu_pytorch_tanh" : "silu");
  if (family.gemma && (type != "gemma" || config.has("hidden_activation"))) {
    key = "hidden_activation";
    name = config.text("hidden_activation", "gelu_pytorch_tanh");
  }
  if (name == "silu" || name == "swish") return "silu";
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return "gelu_tanh";
  // The first Gemma files say "gelu" and mean the tanh form.
  if (name == "gelu") return type == "gemma" && key == "hidden_act" ? "gelu_tanh" : "gelu";
  config.wrong(key, "silu, gelu_pytorch_tanh or gelu", name);
  return "silu";
}

/// Which layers see a window, and how wide: per family a rule or the list layer_types.
void read_windows(const ConfigReader& config, const Family& family, ModelSpec& spec) {
  if (family.window < 0) return;
  const std::string type = family.model_type;
  const size_t count = spec.layers.size();
  const bool qwen = type == "qwen2" || type == "qwen3";
  int64_t window = config.present("sliding_window") && !config.has("sliding_window") ? 0 : family.window;
  if (config.has("sliding_window")) window = config.size("sliding_window", 1);
  if (qwen && !config.boolean("use_sliding_window", false)) window = 0;

  std::vector<bool> slides(count, type == "mistral" || type == "phi3");
  if (qwen) {
    int64_t first = 28;  // the class's own max_window_layers; 0 is legal
    if (config.has("max_window_layers") && config.number("max_window_layers", 0) != 0) first = config.size("max_window_layers", 28);
    else if (config.has("max_window_layers")) first = 0;
    for (size_t i = 0; i < count; ++i) slides[i] = window > 0 && static_cast<int64_t>(i) >= first;
  }
  if (type == "gemma2" || type == "gemma3_text") {
    int64_t period = 2;
    if (type == "gemma3_text") period = config.size("sliding_window_pattern", config.size("_sliding_window_pattern", 6));
    for (size_t i = 0; i < count; ++i) slides[i] = (static_cast<int64_t>(i) + 1) % period != 0;
  }
  if (config.has("layer_types") && !(type == "phi3")) {
    const std::vector<std::string> words = config.words("layer_types", count);
    for (size_t i = 0; i < count; ++i) {
      const bool sliding = words[i] == "sliding_attention";
      if (!sliding && words[i] != "full_attention") {
        config.wrong("layer_types", "full_attention or sliding_attention", words[i]);
        return;
      }
      if (type == "mistral" && sliding != (window > 0)) {
        config.wrong("layer_types", "what sliding_window says of every layer", words[i], "mixed windows of Mistral's kind are not supported");
        return;
      }
      slides[i] = sliding;
    }
  }
  for (size_t i = 0; i < count; ++i) {
    if (!slides[i]) continue;
    if (window == 0 && (family.gemma || qwen)) return config.wrong("sliding_window", "a width, since layers slide", "null");
    spec.layers[i].window = window;
    spec.layers[i].local_rope = type == "gemma3_text";
  }
}

void read_layers(const ConfigReader& config, const Family& family, ModelSpec& spec) {
  // Multimodal Gemma 3 files leave out what equals the class's defaults.
  const bool silent = std::string(family.model_type) == "gemma3_text";
  spec.vocab = config.size("vocab_size", silent ? 262208 : 0);
  spec.hidden = config.size("hidden_size", silent ? 2304 : 0);
  LayerSpec layer;
  layer.ffn = config.size("intermediate_size", silent ? 9216 : 0);
  layer.heads = config.size("num_attention_heads", silent ? 8 : 0);
  layer.kv_heads = config.size("num_key_value_heads", silent ? 4 : layer.heads);
  const size_t count = static_cast<size_t>(config.size("num_hidden_layers", silent ? 26 : 0, 4096));
  spec.layers.assign(count, layer);
  spec.head_size = config.size("head_dim", family.head_size ? family.head_size : std::max<int64_t>(spec.hidden / layer.heads, 1));
  if (!config.has("head_dim") && !family.head_size && spec.hidden % layer.heads != 0)
    config.wrong("num_attention_heads", str("a divisor of hidden_size ", spec.hidden), str(layer.heads));
  if (spec.head_size % 2 != 0) config.wrong("head_dim", "an even number", str(spec.head_size));
  spec.context = config.size("max_position_embeddings", family.context);
  if (config.is_object("attar_layers")) {
    const ConfigReader own = config.inner("attar_layers");
    const std::vector<int64_t> ffn = own.sizes("intermediate_size", count), heads = own.sizes("num_attention_heads", count),
                               kv = own.sizes("num_key_value_heads", count);
    for (size_t i = 0; i < count; ++i) {
      spec.layers[i].ffn = ffn[i];
      spec.layers[i].heads = heads[i];
      spec.layers[i].kv_heads = kv[i];
    }
  }
  for (const LayerSpec& l : spec.layers)
    if (l.heads % l.kv_heads != 0) return config.wrong("num_key_value_heads", str("a divisor of the ", l.heads, " heads"), str(l.kv_heads));
}

}  // namespace

ModelSpec spec_from_config(const Json& config, const std::string& file) {
  if (!config.is_object()) fail(file, "a JSON object", config.type_name());
  if (config.contains("text_config") && config.contains("model_type") && config.at("model_type") == "gemma3") {
    if (!config.at("text_config").is_object()) fail(file + ": key 'text_config'", "an object", config.at("text_config").type_name());
    Json text = config.at("text_config");
    text["model_type"] = "gemma3_text";
    for (const char* key : {"architectures", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "quantization_config"})
      if (config.contains(key) && !config.at(key).is_null()) text[key] = config.at(key);
    return spec_from_config(text, file);
  }
  const Family& family = family_of(config, file);
  const std::string type = family.model_type;
  std::vector<Fault> faults;
  const ConfigReader reader(config, file, faults);
  refuse_foreign(reader);

  ModelSpec spec;
  spec.family = type;
  read_layers(reader, family, spec);
  spec.norm_eps = reader.positive("rms_norm_eps", family.norm_eps);
  spec.norm_offset = family.gemma;
  spec.post_norms = type == "gemma2" || type == "gemma3_text";
  spec.qk_norm = type == "qwen3" || type == "gemma3_text";
  spec.qkv_bias = type == "qwen2" || (family.biases && reader.boolean("attention_bias", false));
  spec.output_bias = family.biases && reader.boolean("attention_bias", false);
  if (!family.biases && type != "qwen2" && reader.boolean("attention_bias", false))
    reader.wrong("attention_bias", str("false for model_type ", type), "true");
  spec.mlp_bias = type == "llama" && reader.boolean("mlp_bias", false);
  if (type != "llama" && reader.boolean("mlp_bias", false)) reader.wrong("mlp_bias", str("false for model_type ", type), "true");
  spec.activation = read_activation(reader, family);
  spec.tied = reader.boolean("tie_word_embeddings", family.tied);
  spec.fused_projections = type == "phi3";
  if (family.gemma) spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden));
  if (spec.post_norms) spec.attention_scale = 1 / std::sqrt(reader.positive("query_pre_attn_scalar", 256));
  if (type == "gemma2") {
    auto cap = [&](const char* key, double fallback) { return reader.present(key) && !reader.has(key) ? 0 : reader.positive(key, fallback); };
    spec.attention_softcap = cap("attn_logit_softcapping", 50);
    spec.logit_softcap = cap("final_logit_softcapping", 30);
  } else if (type == "gemma3_text") {
    if (reader.has("attn_logit_softcapping"))
      reader.wrong("attn_logit_softcapping", "null for model_type gemma3_text", to_line(reader.at("attn_logit_softcapping")));
    if (reader.has("final_logit_softcapping")) spec.logit_softcap = reader.positive("final_logit_softcapping", 0);
  }
  read_windows(reader, family, spec);
  if (faults.empty()) read_ropes(reader, family, spec);
  auto token = [&](const char* key, int64_t fallback) { return reader.present(key) ? reader.token(key) : fallback; };
  spec.bos = token("bos_token_id", family.bos);
  spec.pad = token("pad_token_id", family.pad);
  if (reader.present("eos_token_id")) spec.eos = reader.tokens("eos_token_id");
  else if (family.eos >= 0) spec.eos = {family.eos};
  if (!faults.empty()) throw Error(faults);
  return spec;
}

}  // namespace attar
