#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// A tokenizer.json's unigram model.
struct UnigramPart {
  std::vector<double> scores;  ///< one for each token of the model's own vocabulary
  int32_t unk = -1;
  bool byte_fallback = false;
};

/// What a tokenizer.json says, taken apart: a BPE model, or a unigram one.
struct BpeParts {
  std::vector<std::string> vocabulary;  ///< by id, added tokens included, "" where an id is free
  std::vector<std::pair<std::string, std::string>> merges;
  BpeModel::Options options;
  std::optional<UnigramPart> unigram;
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;
  std::string rules;                    ///< normalizer and pre-tokenizer as JSON text: part of the fingerprint
  std::optional<int32_t> first, last;   ///< what the post-processor puts before and behind a sequence
  Json config = Json::object();         ///< tokenizer_config.json, or special_tokens_map.json where there is none
  std::string chat_template;
  std::vector<std::pair<std::string, std::string>> chat_templates;  ///< others: name and text
  std::vector<TokenizerFile> files;
};

std::shared_ptr<const Tokenizer> bpe_tokenizer(BpeParts parts, const std::string& name);

/// SHA-256 over a byte-level vocabulary: tokens, their types, merges and the rules that cut words.
std::string byte_bpe_fingerprint(const GgufVocabulary& vocabulary, const std::string& rules);

}  // namespace attar
