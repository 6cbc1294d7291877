#include "spec/families.h"

namespace attar {

const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies = {
      {"llama", "LlamaForCausalLM", "llama", 2048, 1e-6, 0, false, false, true, -1, 1, 2, -1},
      {"mistral", "MistralForCausalLM", "llama", 131072, 1e-6, 0, false, false, false, 4096, 1, 2, -1},
      {"qwen2", "Qwen2ForCausalLM", "qwen2", 32768, 1e-6, 0, false, false, false, 4096, -1, -1, -1},
      {"qwen3", "Qwen3ForCausalLM", "qwen3", 32768, 1e-6, 128, false, false, true, 4096, -1, -1, -1},
      {"gemma", "GemmaForCausalLM", "gemma", 8192, 1e-6, 256, true, true, true, -1, 2, 1, 0},
      {"gemma2", "Gemma2ForCausalLM", "gemma2", 8192, 1e-6, 256, true, true, true, 4096, 2, 1, 0},
      {"gemma3_text", "Gemma3ForCausalLM", "gemma3", 131072, 1e-6, 256, true, true, true, 4096, 2, 1, 0},
      {"phi3", "Phi3ForCausalLM", "phi3", 4096, 1e-5, 0, false, false, false, 0, 1, 32000, 32000},
  };
  return kFamilies;
}

const Family* find_family(const std::string& model_type) {
  for (const Family& family : families())
    if (model_type == family.model_type) return &family;
  return nullptr;
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.model_type);
  return names;
}

}  // namespace attar
