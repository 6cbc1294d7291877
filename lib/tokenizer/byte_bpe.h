#pragma once
#include <memory>
#include <string>

#include "tokenizer/gguf_vocab.h"

namespace attar {

/// A GGUF vocabulary of model "gpt2": byte-level BPE with the split rule that `pre` names. Error on a name that is not known.
std::shared_ptr<const Tokenizer> byte_bpe_from_gguf(GgufVocabulary vocabulary, const std::string& name);

}  // namespace attar
