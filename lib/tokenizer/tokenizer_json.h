#pragma once
#include <memory>
#include <string>

#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// A Hugging Face tokenizer.json: byte-level BPE, SentencePiece-style BPE or unigram. What it does not know is refused by name.
std::shared_ptr<const Tokenizer> json_tokenizer(std::string json, TokenizerSurroundings surroundings, const std::string& name);

/// GPT-2's layout: vocab.json and merges.txt.
std::shared_ptr<const Tokenizer> gpt2_tokenizer(std::string vocab, std::string merges, TokenizerSurroundings surroundings, const std::string& name);

}  // namespace attar
