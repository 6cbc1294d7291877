#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/regex.h"

namespace attar {

/// `normalizer` of a tokenizer.json: NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Strip and sequences of them.
class Normalizer {
 public:
  struct Step {
    enum class Kind { nfc, nfd, nfkc, nfkd, lowercase, prepend, replace, strip };
    Kind kind;
    std::string pattern, content;  ///< replace: pattern as given; prepend: content
    std::vector<Regex> regex;      ///< replace by a regular expression
    bool left = false, right = false;
  };
  Normalizer() = default;
  /// `json` may be null. Error on a step that is not known.
  Normalizer(const Json& json, const std::string& name) { if (!json.is_null()) add(json, name, 0); }
  bool empty() const { return steps_.empty(); }
  std::string apply(std::string_view text) const;
  const std::vector<Step>& steps() const { return steps_; }

 private:
  void add(const Json& json, const std::string& name, int depth);
  std::vector<Step> steps_;
};

}  // namespace attar
