#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace attar {

/// GPT-2's alphabet: every byte as one printable character (UTF-8).
const std::array<std::string, 256>& byte_alphabet();
/// The bytes that a text of that alphabet stands for; false if a character is not of it.
bool from_byte_alphabet(std::string_view text, std::string& bytes);

/// Byte-pair encoding: in one word, the pair of the lowest rank is joined first, leftmost first.
/// Words up to a few dozen symbols are scanned, longer ones use a heap: O(n log n) for any length.
class BpeModel {
 public:
  struct Options {
    bool byte_level = false;     ///< symbols are bytes, spelled in GPT-2's alphabet; else characters
    bool byte_fallback = false;  ///< unknown characters become <0x..> tokens
    bool fuse_unk = false;       ///< neighbouring unknowns are one
    bool ignore_merges = false;  ///< a word that is a token is that token
    int32_t unk = -1;
  };
  BpeModel() = default;
  /// `vocabulary[id]` is a token's text, "" where an id is free. Rules whose parts or product are no tokens are an error unless `lenient`.
  BpeModel(std::vector<std::string> vocabulary, const std::vector<std::pair<std::string, std::string>>& merges, Options options, bool lenient,
           const std::string& name);
  /// Ids of one word, appended. With byte_level the word is raw bytes. Uses a cache of the calling thread.
  void encode(std::string_view word, std::vector<int32_t>& out) const;
  const std::vector<std::string>& vocabulary() const { return vocabulary_; }
  const Options& options() const { return options_; }
  int32_t find(const std::string& token) const;
  /// Lowest rank of a rule that makes this token, -1 if none.
  std::vector<int32_t> ranks() const;

 private:
  struct Rule {
    uint64_t pair = ~uint64_t{0};
    uint32_t rank = 0;
    int32_t id = 0;
  };
  const Rule* rule(int32_t left, int32_t right) const;
  void add_rule(int32_t left, int32_t right, uint32_t rank, int32_t id);
  void symbols_of(std::string_view word, std::vector<int32_t>& out) const;
  void merge_few(std::vector<int32_t>& symbols) const;
  void merge_many(std::vector<int32_t>& symbols) const;
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;

  std::vector<std::string> vocabulary_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<std::string, int32_t> words_;  ///< ignore_merges: by the word itself (raw bytes if byte_level)
  std::vector<Rule> rules_;                         ///< open addressing, a power of two
  std::array<int32_t, 256> bytes_{};                ///< symbol of each byte, or its <0x..> token
  Options options_;
  uint64_t serial_ = 0;  ///< tells the caches of different models apart
};

}  // namespace attar
