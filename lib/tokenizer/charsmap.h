#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/sentencepiece_model.h"

namespace attar {

/// Error if a compiled normalizer (a trie with replacement texts) would be read outside its bytes.
void check_charsmap(std::string_view map, const std::string& name);

/// The compiled normalizer of a model: field 2 of its normalizer's message; "" if there is none.
std::string charsmap_of(const SentencePieceModel& model);

/// A compiled normalizer (`precompiled_charsmap`): texts of a few characters and what stands for them.
class Charsmap {
 public:
  Charsmap() = default;
  /// Checked as check_charsmap does.
  Charsmap(std::string_view map, const std::string& name);
  bool empty() const { return units_.empty(); }

  struct Match {
    size_t size = 0;               ///< bytes that are replaced; 0: none
    std::string_view replacement;
  };
  Match longest(std::string_view text, size_t at) const { return match(text, at, true); }
  Match shortest(std::string_view text, size_t at) const { return match(text, at, false); }
  /// Whether any text begins with this byte.
  bool begins(uint8_t byte) const { return !empty() && begins_[byte]; }

  /// As Hugging Face tokenizers apply it: by grapheme below six bytes, else by character; the shortest entry that begins there replaces the whole.
  /// `text` is valid UTF-8.
  std::string apply_by_grapheme(std::string_view text) const;

 private:
  Match match(std::string_view text, size_t at, bool longest) const;
  std::vector<uint32_t> units_;
  std::string texts_;
  std::vector<bool> begins_;
};

}  // namespace attar
