#pragma once
#include <string>
#include <vector>

#include "base/json.h"

namespace attar {

/// `decoder` of a tokenizer.json: ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace and sequences of them.
/// Bytes stay bytes: a character that is not whole yet is not replaced.
class TokenDecoder {
 public:
  TokenDecoder() = default;
  /// `json` may be null: tokens are then joined by spaces. Error on a step that is not known.
  TokenDecoder(const Json& json, const std::string& name);
  std::string decode(std::vector<std::string> tokens) const;

 private:
  struct Step {
    enum class Kind { byte_level, replace, byte_fallback, fuse, strip, metaspace };
    Kind kind;
    std::string pattern, content;
    size_t start = 0, stop = 0;
  };
  void add(const Json& json, const std::string& name, int depth);
  std::vector<Step> steps_;
};

}  // namespace attar
