#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/pre_tokenizer.h"

namespace attar {

/// What a GGUF reader does for one value of tokenizer.ggml.pre.
struct PreRule {
  std::string family;                 ///< one name for all values of the same effect
  std::vector<std::string> patterns;  ///< each isolates its matches, one after the other
  bool ignore_merges = false;         ///< a word that is a token is that token
  bool add_bos = false;               ///< where the file does not say
};

/// Error naming the known ones if `pre` is not known; "" and "default" are the reader's fallback.
const PreRule& pre_rule(const std::string& pre, const std::string& name);

/// The value of tokenizer.ggml.pre that cuts words as `pre_tokenizer` does; nothing if there is none.
/// `deviations`: what the reader's rule is known to cut differently.
std::optional<std::string> pre_of(const PreTokenizer& pre_tokenizer, bool ignore_merges, std::vector<std::string>& deviations);

}  // namespace attar
