#pragma once
#include <vector>

#include "data/rows.h"
#include "model/checkpoint.h"

namespace attar {

/// How often each of `vocab` ids stands in the used part of the rows.
std::vector<int64_t> token_counts(const TokenRows& rows, int64_t vocab);

/// The model with the tokens whose count is `least` or more, and what prune_tokenizer() keeps besides: fewer rows of embedding and output matrix, a
/// tokenizer that cuts the counted texts into the same pieces (all of them with `least` 1), and renumbered special ids. Error without a tokenizer, or
/// if its vocabulary and the model's differ by more than padding at the end.
Checkpoint prune_vocabulary(const Checkpoint& model, const std::vector<int64_t>& counts, int64_t least);

}  // namespace attar
