#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/gguf_vocab.h"

namespace attar {

/// How a GGUF reader finds special tokens: one token after the other, longest text first, each over all that is still text.
/// User-defined tokens are always found, control and unknown ones only when asked for.
/// Tokens with a text such as <|im_end|>, </s> or <|fim_prefix|> count as control whatever their type says.
class GgufSpecials {
 public:
  GgufSpecials() = default;
  explicit GgufSpecials(const GgufVocabulary& vocabulary);
  /// Calls `piece(text, id)` from left to right; id is -1 for text.
  void split(std::string_view text, bool specials, const std::function<void(std::string_view, int32_t)>& piece) const;
  /// Left out when text is decoded.
  bool hidden(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < hidden_.size() && hidden_[id]; }

 private:
  struct Special {
    int32_t id;
    std::string text;
    bool control, strip_right;
  };
  std::vector<Special> tokens_;  ///< longest first
  std::vector<bool> hidden_;
};

}  // namespace attar
