#pragma once
#include <functional>
#include <vector>

#include "model/decoder.h"

namespace attar {

struct GenerateOptions {
  int64_t max_tokens = 256;
  double temperature = 0;        ///< 0: greedy
  uint64_t seed = 0;
  std::vector<int64_t> stop;     ///< ids that end the text (not returned)
};
/// Continues `prompt` (not empty) with a KV cache. `on_token` sees each new id; returning false stops.
std::vector<int32_t> generate(const Decoder& model, const std::vector<int32_t>& prompt, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& on_token = {});

}  // namespace attar
