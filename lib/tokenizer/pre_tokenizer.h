#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/regex.h"

namespace attar {

/// Cuts text into the words that BPE works on, one step after the other, as `pre_tokenizer` of a tokenizer.json says:
/// Split, ByteLevel, Digits, Punctuation, Metaspace, Whitespace, WhitespaceSplit, CharDelimiterSplit and sequences of them.
class PreTokenizer {
 public:
  enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };
  struct Step {
    enum class Kind { split, prefix_space, metaspace, spell, unspell };  ///< the last two: into GPT-2's alphabet and back
    Kind kind = Kind::split;
    std::string pattern;   ///< split: the regular expression as it was given, for to_gguf
    std::vector<Regex> regex;  ///< split: one
    Behavior behavior = Behavior::isolated;
    bool invert = false;
    std::string replacement;                          ///< metaspace: what stands for a space
    enum class Prepend { always, first, never } prepend = Prepend::never;
  };

  PreTokenizer() = default;
  /// `json` may be null: the text is one word. Error on a step that is not known.
  PreTokenizer(const Json& json, const std::string& name);
  /// Splits by patterns, each isolating its matches: a GGUF reader's rule.
  static PreTokenizer isolating(const std::vector<std::string>& patterns);

  /// Words of `text` in order. They point into `text` or into `storage`, which replaces it where a step changes characters.
  /// `at_start`: the text begins the whole input.
  void split(std::string_view text, bool at_start, std::string& storage, std::vector<std::string_view>& words) const;
  bool byte_level() const { return byte_level_; }
  const std::vector<Step>& steps() const { return steps_; }

 private:
  void add(const Json& json, const std::string& name, int depth);
  void add_split(std::string pattern, Behavior behavior, bool invert, const std::string& name);
  std::vector<Step> steps_;
  bool byte_level_ = false;  ///< words are spelled in GPT-2's alphabet afterwards
};

/// The split that GPT-2 published, used by ByteLevel.
extern const char* const kGpt2Pattern;

}  // namespace attar
