#pragma once
#include "data/task.h"
#include "model/decoder.h"

namespace attar {

/// Adds a learned score (eval/learned_score.h) to every row of a score file: fitted on a quarter of its rows, which are marked, or taken from a
/// router.json, which marks none. `config`: last, mean, or the router's path. Returns what the report says of it.
Json add_learned_score(const fs::path& score_file, const Decoder& model, const Tokenizer& tokenizer, const std::vector<TaskExample>& examples,
                       const std::string& config);

}  // namespace attar
