#pragma once
#include "base/json.h"
#include "eval/positions.h"

namespace attar {

/// exp(mean negative log-likelihood) over scored positions. Sums in float64.
struct PerplexityResult {
  double value = 0;    ///< perplexity
  double error = 0;    ///< its standard error: value times that of the mean nll (Gaussian propagation, as llama.cpp gives it)
  double nll = 0;      ///< mean, in nats a token
  int64_t tokens = 0;  ///< scored
  std::string protocol;
  Json to_json() const;  ///< {value, stderr, nll, tokens, protocol}
};

/// From single negative log-likelihoods (nats).
PerplexityResult perplexity_of(const std::vector<double>& nll, std::string protocol);

/// Runs the model over all positions once. Memory: one forward pass, a slice of logits, 8 bytes a scored token.
/// Error naming the token if the model's likelihoods are not finite.
PerplexityResult perplexity(const Decoder& model, ScoredPositions& positions);

}  // namespace attar
