#pragma once
#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/unigram.h"

namespace attar {

/// Words to ids by a tokenizer.json's unigram model, as Hugging Face tokenizers do: a run of unknown characters is one unknown token, or its bytes.
class UnigramWords {
 public:
  UnigramWords(const std::vector<std::string>& vocabulary, const UnigramPart& part, const std::string& name);
  /// Ids of one word, appended. Uses the calling thread's cache.
  void encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;
  void put_unknown(std::string_view run, std::vector<int32_t>& out) const;
  UnigramModel model_;
  std::unordered_map<std::string, int32_t> ids_;
  std::array<int32_t, 256> bytes_{};
  bool byte_fallback_ = false;
  int32_t unk_;
  uint64_t serial_;
};

}  // namespace attar
