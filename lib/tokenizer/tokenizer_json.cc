#include "tokenizer/tokenizer_json.h"

#include "base/check.h"

namespace attar {
std::shared_ptr<const Tokenizer> json_tokenizer(std::string, TokenizerSurroundings, const std::string& name) { fail(name, "a SentencePiece model"); }
std::shared_ptr<const Tokenizer> gpt2_tokenizer(std::string, std::string, TokenizerSurroundings, const std::string& name) { fail(name, "a SentencePiece model"); }
}  // namespace attar
