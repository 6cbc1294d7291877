#pragma once
#include "base/check.h"
#include "tokenizer/gguf_vocab.h"

namespace attar {

/// What the tokenizers of a GGUF vocabulary have in common: facts that stand in it.
class VocabularyTokenizer : public Tokenizer {
 public:
  int64_t size() const override { return static_cast<int64_t>(vocabulary_.tokens.size()); }
  std::string piece(int32_t id) const override {
    if (id < 0 || id >= size()) fail("token id", str("0 to ", size() - 1), str(id));
    return vocabulary_.tokens[id];
  }
  std::optional<int32_t> id_of(const std::string& piece) const override {
    const int32_t id = token_of(piece);
    return id < 0 ? std::nullopt : std::optional(id);
  }
  std::optional<int32_t> bos() const override { return vocabulary_.bos; }
  std::optional<int32_t> eos() const override { return vocabulary_.eos; }
  std::optional<int32_t> pad() const override { return vocabulary_.pad; }
  bool add_eos() const override { return vocabulary_.eos && vocabulary_.add_eos.value_or(false); }
  std::string chat_template() const override { return vocabulary_.chat_template; }

 protected:
  explicit VocabularyTokenizer(GgufVocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  virtual int32_t token_of(const std::string& text) const = 0;  ///< -1 if there is none
  GgufVocabulary vocabulary_;
};

}  // namespace attar
