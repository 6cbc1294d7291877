#pragma once
#include "base/json.h"
#include "eval/perplexity.h"

namespace attar {

/// How far a model's next-token distributions are from its base's, over scored positions. Exponentials and sums in float64, nothing rounded on the
/// way (llama.cpp's own figure has a noise floor near 5e-4, because it stores the base in 16 bits). Percentiles are exact for the first 131,072
/// positions, of more within 0.1% (eval/running.h).
struct FidelityResult {
  double mean = 0, error = 0;  ///< KL(base || model) in nats a token, and its standard error
  double p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
  double top1 = 0, top1_error = 0;             ///< share of positions where both like the same token best
  double rms_delta_p = 0, mean_delta_p = 0;    ///< of p(model) - p(base) for the token that follows
  double delta_nll = 0, delta_nll_error = 0;   ///< mean nll of the model minus the base's, paired
  PerplexityResult model, base;
  std::string protocol;
  Json kld_json() const;   ///< {mean, stderr, p50, p90, p99, p999, max, tokens, protocol}
  Json top1_json() const;  ///< {value, stderr}
};

/// Runs both models over all positions once. Vocabularies of different padded length are cut to the shorter. Both must use one tokenizer
/// (the caller's to see to). Memory: a forward pass of each and a slice of logits of each, however long the text is.
FidelityResult fidelity(const Decoder& base, const Decoder& model, ScoredPositions& positions);

}  // namespace attar
