#pragma once
#include "base/fields.h"
#include "spec/model_spec.h"

namespace attar {

/// A model to be trained from nothing, as written in configs/models/*.yaml (keys are Hugging Face's).
struct ModelConfig {
  std::string model_type = "llama";
  int64_t hidden_size = 256, intermediate_size = 704, num_hidden_layers = 4, num_attention_heads = 4, num_key_value_heads = 2;
  std::optional<int64_t> head_dim;
  int64_t max_position_embeddings = 512;
  double rope_theta = 10000, rms_norm_eps = 1e-5;
  bool tie_word_embeddings = true;
  template <class Visitor> void fields(Visitor&& field) {
    field("model_type", model_type, "decoder family: llama");
    field("hidden_size", hidden_size, "D, width of the residual stream");
    field("intermediate_size", intermediate_size, "F, width of the feed-forward layers");
    field("num_hidden_layers", num_hidden_layers, "L, number of layers");
    field("num_attention_heads", num_attention_heads, "H, query heads");
    field("num_key_value_heads", num_key_value_heads, "K, key and value heads; divides H");
    field("head_dim", head_dim, "d, size of a head; hidden_size / num_attention_heads if absent");
    field("max_position_embeddings", max_position_embeddings, "longest sequence");
    field("rope_theta", rope_theta, "base of the rotary frequencies");
    field("rms_norm_eps", rms_norm_eps, "added to the mean square in RMSNorm");
    field("tie_word_embeddings", tie_word_embeddings, "use the embedding as output matrix");
  }
};
/// Faults (heads that kv heads do not divide, odd head size, ...) are thrown as one Error.
ModelSpec spec_from_model_config(const ModelConfig& config, int64_t vocab);

}  // namespace attar
