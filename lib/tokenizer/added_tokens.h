#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"

namespace attar {

/// A token that is found in the text before any model sees it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      ///< taken literally unless the caller asks for specials
  bool normalized = false;   ///< searched in the normalized text, not in the given one
  bool lstrip = false;       ///< swallows whitespace on its left
  bool rstrip = false;       ///< swallows whitespace on its right
  bool single_word = false;  ///< only where no letter, digit or underscore touches it
};

/// Cuts text at added tokens: leftmost first, longest first, as Hugging Face tokenizers do.
/// A special token that is met while specials are not asked for stays text (and hides what overlaps it).
class AddedMatcher {
 public:
  AddedMatcher() = default;
  explicit AddedMatcher(std::vector<AddedToken> tokens);
  bool empty() const { return tokens_.empty(); }
  /// Calls `piece(text, token)` from left to right; token is null for text between tokens; empty text is left out.
  void split(std::string_view text, bool specials, const std::function<void(std::string_view, const AddedToken*)>& piece) const;

 private:
  struct Node {
    int32_t token = -1;  ///< index into tokens_
    std::unordered_map<uint8_t, int32_t> next;
  };
  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<bool, 256> first_{};
};

/// `added_tokens` of a tokenizer.json, or `added_tokens_decoder` of a tokenizer_config.json (an object keyed by id).
std::vector<AddedToken> parse_added_tokens(const Json& value, const std::string& name);
/// A token's text in a tokenizer_config.json or special_tokens_map.json: a string or an object with `content`; "" if null or missing.
std::string special_text(const Json& config, const char* key);

}  // namespace attar
