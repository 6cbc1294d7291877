#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/gguf_vocab.h"

namespace attar {

/// "<0x0A>": how SentencePiece spells a byte.
std::string byte_piece(uint8_t byte);

/// Bytes of the character that begins with `lead`, by its upper half alone, as SentencePiece and GGUF readers count.
inline size_t spm_character_bytes(uint8_t lead) {
  constexpr uint8_t kBytes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
  return kBytes[lead >> 4];
}

/// Where the word that begins at `at` ends: before the next space mark (U+2581) that follows another character.
size_t next_spm_word(std::string_view text, size_t at);

/// SentencePiece's BPE as GGUF readers do it: join the neighbours whose joined text is the token of the highest score, leftmost first,
/// until none is left; characters that are no token become their bytes. O(n log n) in the text's length.
class SpmMerger {
 public:
  SpmMerger() = default;
  /// Keeps views into `tokens`, which must outlive this.
  SpmMerger(const std::vector<std::string>& tokens, const std::vector<float>& scores, int32_t unk);
  /// `bytes`: the token of each byte of a character that is none. Empty texts are never found.
  SpmMerger(const std::vector<std::string>& tokens, const std::vector<float>& scores, std::vector<int32_t> bytes);
  /// Ids of text whose spaces are already escaped, appended to `out`.
  void encode(std::string_view escaped, std::vector<int32_t>& out) const;
  int32_t find(std::string_view text) const;  ///< token of that text or -1

 private:
  void encode_word(std::string_view escaped, std::vector<int32_t>& out) const;
  std::unordered_map<std::string_view, int32_t> ids_;
  bool words_ = false;    ///< no token reaches over the place before a space: words stand alone
  uint64_t serial_ = 0;   ///< in the cache of words
  const std::vector<float>* scores_ = nullptr;
  size_t longest_ = 0;
  std::vector<int32_t> bytes_;  ///< token of each byte
};

/// A GGUF vocabulary of model "llama".
std::shared_ptr<const Tokenizer> spm_tokenizer(GgufVocabulary vocabulary, const std::string& name);

/// SHA-256 over pieces, scores, types and the prefix flag, padding at the end left out: the same for a .model file and the GGUF made from it.
std::string spm_fingerprint(const GgufVocabulary& vocabulary);

/// Adds why a GGUF reader's ids can differ from SentencePiece's BPE for this vocabulary.
void spm_deviations(const GgufVocabulary& vocabulary, std::vector<std::string>& deviations);

}  // namespace attar
