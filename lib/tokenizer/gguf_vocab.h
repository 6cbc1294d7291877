#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/gguf.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// tokenizer.ggml.* of a GGUF file as plain values.
struct GgufVocabulary {
  enum Type : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  std::string model;                 ///< "llama" (SentencePiece BPE), "t5" (unigram) or "gpt2" (byte-level BPE)
  std::string pre;                   ///< name of the split rule; "" if absent
  std::vector<std::string> tokens;
  std::vector<float> scores;         ///< empty or one per token
  std::vector<int32_t> types;        ///< one per token
  std::vector<std::string> merges;   ///< "gpt2" only: "A B"
  std::optional<int32_t> bos, eos, unk, pad;
  std::optional<bool> add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
  std::vector<uint8_t> charsmap;     ///< "t5" only: SentencePiece's compiled normalizer
  std::string chat_template;
  std::vector<std::pair<std::string, std::string>> chat_templates;  ///< others: name and text
  std::string general_name;          ///< general.name: some reader rules hang on it
};

/// The deviation that only uncommon text meets (a normalizer that is NFC alone, as Qwen's): exports say it and go on; all others are refused.
inline constexpr const char* kUncomposedDeviation =
    "text that is not in Unicode's composed form (NFC: an accent written as a mark after its letter) may "
    "get other ids in GGUF readers, which do not normalize";

/// Checked: lengths agree, ids inside, types known.
GgufVocabulary read_gguf_vocabulary(const GgufMetadata& metadata, const std::string& name);
/// Sets the keys, padded with [PAD<id>] of type unused up to `vocab`. Error if there are more tokens than that, or two of one text.
void write_gguf_vocabulary(const GgufVocabulary& vocabulary, int64_t vocab, GgufMetadata& metadata);
/// The tokenizer a GGUF reader would be, for model "llama", "t5" or "gpt2".
std::shared_ptr<const Tokenizer> gguf_tokenizer(GgufVocabulary vocabulary, const std::string& name);

}  // namespace attar
