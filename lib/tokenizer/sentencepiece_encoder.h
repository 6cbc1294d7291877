#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/sentencepiece_model.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/piece_trie.h"
#include "tokenizer/spm_bpe.h"
#include "tokenizer/unigram.h"

namespace attar {

/// SentencePiece's way from text to ids for bpe and unigram models: the same ids, sooner. BPE keeps words in a cache where no piece reaches over
/// a space; unigram is one pass over a double array. Thread-safe.
class SentencePieceEncoder {
 public:
  /// Null where only the library knows the way: word and character models, unused pieces in bpe, spaces as suffixes, one text for two pieces.
  static std::unique_ptr<const SentencePieceEncoder> of(const SentencePieceModel& model, const std::string& name);
  SentencePieceEncoder(const SentencePieceModel& model, const std::string& name);
  SentencePieceEncoder(const SentencePieceEncoder&) = delete;
  SentencePieceEncoder& operator=(const SentencePieceEncoder&) = delete;

  /// Ids of `text`, appended; bytes that are no UTF-8 become U+FFFD each.
  void encode(std::string_view text, std::vector<int32_t>& out) const;
  /// The text as the model sees it: mapped, spaces marked.
  std::string normalize(std::string_view text) const;

 private:
  void encode_bpe(std::string_view text, std::vector<int32_t>& out) const;
  void encode_unigram(std::string_view text, std::vector<int32_t>& out) const;

  Charsmap charsmap_;
  PieceTrie user_defined_;             ///< found first, in the given text too
  bool dummy_prefix_, one_space_, mark_spaces_, bpe_, byte_fallback_;
  int32_t unk_;
  std::vector<std::string> tokens_;    ///< bpe: "" where the merger must not look
  std::vector<float> scores_;
  std::vector<int32_t> bytes_;         ///< piece of each byte, or unk
  SpmMerger merger_;
  UnigramModel unigram_;
};

}  // namespace attar
