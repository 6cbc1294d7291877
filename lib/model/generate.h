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

/// One text of many that are written at once.
struct WrittenText {
  std::vector<int32_t> ids;
  bool finished = false;         ///< a stop id came, or WriteOptions::ended said so, before max_tokens
  double log_prob = 0;           ///< WriteOptions::log_probs: sum over the ids that were chosen, a stop id included, nats
};
struct WriteOptions {
  GenerateOptions generate;
  double top_p = 1;              ///< drawn among the likeliest ids that together have this probability
  int64_t vocab = 0;             ///< only ids below this; 0: the model's
  bool log_probs = false;        ///< fill in WrittenText::log_prob (of the whole distribution, whatever was drawn from)
  std::function<bool(size_t text, const std::vector<int32_t>& ids)> ended = {};  ///< whether a text that is so long by now ends here
};
/// Continues many prompts (none empty) in one batch, shorter ones padded at their start where nobody looks. Text i draws from (seed, streams[i],
/// number of the token) alone; its bits depend on the batch that it is in only as far as matrix products do.
std::vector<WrittenText> write_texts(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts, const std::vector<uint64_t>& streams,
                                     const WriteOptions& options);

}  // namespace attar
