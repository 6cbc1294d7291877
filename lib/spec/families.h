#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace attar {

/// What a Hugging Face family fixes or assumes where its config.json is silent: the facts of its configuration class.
struct Family {
  const char* model_type;
  const char* architecture;     ///< class named in "architectures"
  const char* gguf;             ///< general.architecture
  int64_t context;              ///< max_position_embeddings when absent
  double norm_eps;              ///< rms_norm_eps when absent
  int64_t head_size;            ///< head_dim when absent; 0: hidden_size / num_attention_heads
  bool tied;                    ///< tie_word_embeddings when absent
  bool gemma;                   ///< norms of 1 + w, embeddings times sqrt(hidden), tanh-GELU
  bool biases;                  ///< has the key attention_bias
  int64_t window;               ///< sliding_window when absent; 0: none, -1: the family has no windows
  int64_t bos, eos, pad;        ///< token ids when absent, -1: none
};

const std::vector<Family>& families();
const Family* find_family(const std::string& model_type);
std::vector<std::string> family_names();

}  // namespace attar
