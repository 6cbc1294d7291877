#pragma once
#include "dist/process_group.h"
#include "prune/search.h"
#include "stages/stage.h"

namespace attar {

/// Where pruning's search and the choice of types meet: widths are found with one type, then every tensor of that shape gets its own, so that the
/// file fills the limit.

/// Error, by the key's name, if config.types has one that weights cannot be rounded to.
void check_types(const SearchConfig& config);
/// Every matrix as this type, or its fallback by width.
std::map<std::string, GgmlType> one_type(const ModelSpec& spec, GgmlType type);

/// Types of least summed KL whose file, with `metadata` bytes before its tensors, has at most `limit` bytes; candidate.types and candidate.cost
/// become these. KL is measured on `small`, the candidate after surgery, tensor by tensor (quant/budget.h); `partial` keeps what is measured.
void choose_types(Candidate& candidate, const Checkpoint& small, const SearchConfig& config, int64_t metadata, int64_t limit, const TokenRows& rows,
                  const fs::path& partial, ProcessGroup& group);

/// types.json beside a pruned model, and back: types by weight for a model of `spec`. `given`: the stage's folder, or the file. Error if it is
/// missing or another model's.
void save_types(const std::map<std::string, GgmlType>& types, const fs::path& folder);
std::map<std::string, GgmlType> given_types(const fs::path& given, const ModelSpec& spec);

}  // namespace attar
