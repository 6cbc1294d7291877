#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "model/decoder.h"

namespace attar {

/// How surely a model's answer is right, told from its own hidden state: a logistic regression, sigmoid(weights . state + bias).
struct LearnedScore {
  std::string of;                ///< whose state: the prompt's last position, or mean over all of them
  std::vector<double> weights;   ///< (D)
  double bias = 0;
  int64_t fitted_rows = 0;       ///< 0: it was read from a router
  double l2 = 0, log_loss = 0;   ///< chosen strength (of standardised features), and its cross-validated loss in nats a row
  Json to_json() const;
  /// Error unless it is what to_json gave; `name` stands in errors.
  static LearnedScore from_json(const Json& value, const std::string& name);
};

/// The states (n, D) float64 of prompts; a prompt longer than the context loses its beginning. `of`: last or mean. `batch_tokens`: of a forward pass.
at::Tensor prompt_states(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts, const std::string& of, int64_t batch_tokens = 4096);

/// L2-regularised logistic regression of `correct` (1 or 0) on states (n, D): features standardised, the intercept free, minimised by Newton's method
/// in float64 in the span of the rows, so D may be far above n. The strength is that of 0.1, 1, ..., 1000 with the least log loss in five folds drawn
/// by seed. Same input, same bits. Rows of one class give weights 0. Error below 20 rows.
LearnedScore fit_learned_score(const at::Tensor& states, const std::vector<double>& correct, const std::string& of, uint64_t seed = 0);

/// (n, D) -> n shares in [0, 1]. Error if D is another.
std::vector<double> learned_scores(const LearnedScore& score, const at::Tensor& states);

}  // namespace attar
