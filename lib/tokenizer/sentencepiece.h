#pragma once
#include <memory>
#include <string>
#include <vector>

#include "formats/sentencepiece_model.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// What lies around a tokenizer in the Hugging Face layout, as it was found.
struct TokenizerSurroundings {
  std::string config;             ///< tokenizer_config.json or ""
  std::string chat_template;      ///< chat_template.jinja or ""
  std::vector<TokenizerFile> others;  ///< files kept verbatim: tokenizer.json, special_tokens_map.json, added_tokens.json, chat_template.jinja
};

/// A SentencePiece model used through libsentencepiece: ids are the library's.
/// Tokens added around the model (tokenizer_config.json, added_tokens.json, tokenizer.json) are found first; special ones only when asked for.
std::shared_ptr<const Tokenizer> sentencepiece_tokenizer(std::string model, TokenizerSurroundings surroundings, const std::string& name);

/// A unigram vocabulary of a GGUF file (model "t5"), rebuilt as a SentencePiece model.
std::shared_ptr<const Tokenizer> unigram_from_gguf(GgufVocabulary vocabulary, const std::string& name);

/// tokenizer_config.json of a SentencePiece model that came with none. transformers reads sentencepiece_as_json() by it where there is one;
/// its own reading of a .model file drops the prefix of texts that begin with a space.
std::string plain_sentencepiece_config(const SentencePieceModel& model, bool add_bos);

/// A tokenizer.json can say what the model does: bpe or unigram without a compiled normalizer.
bool fits_tokenizer_json(const SentencePieceModel& model);
/// The model as a tokenizer.json, for readers of that format.
std::string sentencepiece_as_json(const SentencePieceModel& model, bool add_bos);

}  // namespace attar
