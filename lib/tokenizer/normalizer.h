#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/regex.h"

namespace attar {

/// `normalizer` of a tokenizer.json: NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Strip, StripAccents, Precompiled and sequences of them.
class Normalizer {
 public:
  struct Step {
    enum class Kind { nfc, nfd, nfkc, nfkd, lowercase, prepend, replace, strip, strip_accents, precompiled };
    Kind kind;
    std::string pattern, content;  ///< replace: pattern as given; prepend: content
    std::vector<Regex> regex;      ///< replace by a regular expression
    bool left = false, right = false;
    std::shared_ptr<const Charsmap> map;  ///< precompiled
  };
  Normalizer() = default;
  /// `json` may be null. Error on a step that is not known.
  Normalizer(const Json& json, const std::string& name) { if (!json.is_null()) add(json, name, 0); }
  bool empty() const { return steps_.empty(); }
  /// `cut_front`: set if the text's first characters were dropped, not replaced.
  std::string apply(std::string_view text, bool* cut_front = nullptr) const;
  const std::vector<Step>& steps() const { return steps_; }

 private:
  void add(const Json& json, const std::string& name, int depth);
  std::vector<Step> steps_;
};

}  // namespace attar
