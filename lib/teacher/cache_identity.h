#pragma once
#include <cstdint>
#include <string>

#include "base/json.h"
#include "spec/configs.h"

namespace attar {

/// Who made a cache and of what: a consumer that differs in any of these is refused with both values.
struct CacheIdentity {
  std::string teacher, tokenizer, data, rows;  ///< fingerprints
  int64_t vocab = 0;
  double temperature = 1;
  uint64_t seed = 0;
  CodecConfig codec;
  Json to_json() const;
  static CacheIdentity from_json(const Json& value, const std::string& name);
};

}  // namespace attar
