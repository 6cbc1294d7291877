#pragma once
#include <array>

#include "base/json.h"
#include "eval/logit_rows.h"
#include "eval/positions.h"
#include "eval/running.h"

namespace attar {

/// How far a model's confidence in its likeliest next token is from how often it is right: expected calibration error over 15 bins of equal width
/// (Guo et al. 2017, section 2), in constant memory.
class TokenCalibration {
 public:
  /// log_probs (n, V) of n positions, targets (n) the tokens that follow.
  void add(const at::Tensor& log_probs, const at::Tensor& targets);
  void add(double confidence, bool right);
  double error() const;  ///< sum over bins of share times |right - confidence|

 private:
  std::array<double, 15> count_{}, confidence_{}, right_{};
};

/// exp(mean negative log-likelihood) over scored positions. Sums in float64.
struct PerplexityResult {
  double value = 0;    ///< perplexity
  double error = 0;    ///< its standard error: value times that of the mean nll (Gaussian propagation, as llama.cpp gives it)
  double nll = 0;      ///< mean, in nats a token
  int64_t tokens = 0;  ///< scored
  int64_t bytes = 0;   ///< of the text that they stand for; 0: not known
  double ece = 0;      ///< TokenCalibration's error
  double bits_per_byte() const;  ///< nll over the bytes, in bits: comparable between tokenizers. Only where bytes are known
  std::string protocol;
  Json to_json() const;  ///< {value, stderr, nll, tokens, protocol, ece, and where bytes are known bytes and bits_per_byte}
};

/// From negative log-likelihoods (nats).
PerplexityResult perplexity_of(const RunningMean& nll, std::string protocol);

/// Runs the model over all positions once. Memory: one forward pass and a slice of logits, however long the text is.
/// Error naming the token if the model's likelihoods are not finite.
PerplexityResult perplexity(const Decoder& model, ScoredPositions& positions);

}  // namespace attar
