#include "spec/model_config.h"

namespace attar {

ModelSpec spec_from_model_config(const ModelConfig& config, int64_t vocab) {
  std::vector<Fault> faults;
  auto demand = [&](bool held, const char* key, const std::string& expected, int64_t received, const char* hint = "") {
    if (!held) faults.push_back({std::string("model key '") + key + "'", expected, std::to_string(received), hint});
  };
  if (config.model_type != "llama")
    faults.push_back({"model key 'model_type'", "llama", config.model_type, "other families are read from checkpoints, not trained from nothing"});
  constexpr int64_t kLargest = int64_t{1} << 24;
  auto size = [&](const char* key, int64_t value) { demand(value > 0 && value <= kLargest, key, "a number from 1 to 16777216", value); };
  size("hidden_size", config.hidden_size);
  size("intermediate_size", config.intermediate_size);
  size("num_attention_heads", config.num_attention_heads);
  size("num_key_value_heads", config.num_key_value_heads);
  size("max_position_embeddings", config.max_position_embeddings);
  demand(config.num_hidden_layers > 0 && config.num_hidden_layers <= 4096, "num_hidden_layers", "a number from 1 to 4096", config.num_hidden_layers);
  demand(vocab > 0, "vocab_size", "a positive number", vocab);
  if (config.num_attention_heads > 0 && config.num_key_value_heads > 0)
    demand(config.num_attention_heads % config.num_key_value_heads == 0, "num_key_value_heads",
           str("a divisor of num_attention_heads ", config.num_attention_heads), config.num_key_value_heads);
  int64_t head = config.head_dim.value_or(0);
  if (!config.head_dim && config.num_attention_heads > 0) {
    demand(config.hidden_size % config.num_attention_heads == 0, "hidden_size",
           str("a multiple of num_attention_heads ", config.num_attention_heads), config.hidden_size, "or give head_dim");
    head = config.hidden_size / config.num_attention_heads;
  }
  demand(head > 0 && head <= kLargest && head % 2 == 0, "head_dim", "a positive even number (halves rotate against each other)", head);
  if (!(config.rope_theta > 1)) faults.push_back({"model key 'rope_theta'", "a number above 1", str(config.rope_theta), ""});
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps < 1))
    faults.push_back({"model key 'rms_norm_eps'", "a small positive number", str(config.rms_norm_eps), ""});
  if (!faults.empty()) throw Error(faults);

  ModelSpec spec;
  spec.family = config.model_type;
  spec.vocab = vocab;
  spec.hidden = config.hidden_size;
  spec.head_size = head;
  spec.context = config.max_position_embeddings;
  LayerSpec layer;
  layer.ffn = config.intermediate_size;
  layer.heads = config.num_attention_heads;
  layer.kv_heads = config.num_key_value_heads;
  spec.layers.assign(static_cast<size_t>(config.num_hidden_layers), layer);
  spec.norm_eps = config.rms_norm_eps;
  spec.tied = config.tie_word_embeddings;
  spec.rope.theta = config.rope_theta;
  return spec;
}

}  // namespace attar
