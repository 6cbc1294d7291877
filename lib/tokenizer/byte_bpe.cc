#include "tokenizer/byte_bpe.h"

#include "base/check.h"

namespace attar {
std::shared_ptr<const Tokenizer> byte_bpe_from_gguf(GgufVocabulary vocabulary, const std::string& name) { fail(name, "model llama", vocabulary.model); }
}  // namespace attar
