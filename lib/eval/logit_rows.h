#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace attar {

/// What a row of logits says of the token that follows.
struct ScoredRow {
  double nll = 0;         ///< of the token that follows, nats
  double confidence = 0;  ///< probability of the likeliest token
  int64_t best = 0;       ///< its id, the first of equal ones
  bool right = false;     ///< whether it follows
};
struct ComparedRow {
  ScoredRow base, model;
  double kl = 0;          ///< KL(base || model), nats; exactly 0 for equal rows
};

/// Rows of logits (n, V) and the ids (n) that follow, one pass over each row, everything but the logits themselves in float64: no (n, V) tensor of
/// probabilities is formed. The same for any number of threads. Logits on another device or in another type are copied first.
std::vector<ScoredRow> score_rows(const at::Tensor& logits, const at::Tensor& targets);
/// The same of two models' logits, (n, V) each, and how far the second is from the first.
std::vector<ComparedRow> compare_rows(const at::Tensor& base, const at::Tensor& model, const at::Tensor& targets);

/// Both by whole tensors in float64: the specification.
std::vector<ComparedRow> compare_rows_plain(const at::Tensor& base, const at::Tensor& model, const at::Tensor& targets);

}  // namespace attar
