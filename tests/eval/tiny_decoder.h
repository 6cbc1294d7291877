#pragma once
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "base/rng.h"
#include "byte_tokenizer.h"
#include "model/decoder.h"
#include "spec/model_config.h"

namespace attar {

/// A small Llama over ByteTokenizer's ids with weights drawn so large that every feature moves the logits.
inline Decoder tiny_decoder(uint64_t seed = 1, int64_t context = 128, int64_t vocab = 261) {
  ModelConfig config;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.max_position_embeddings = context;
  Decoder decoder = Decoder::random(spec_from_model_config(config, vocab), seed);
  for (auto& [name, weight] : decoder.weights()) {
    if (weight.dim() == 2) weight.mul_(name.find("embed") != std::string::npos ? 15 : 12);
    else weight.mul_(0.7);
  }
  return decoder;
}

}  // namespace attar
