#include "prune/vocabulary.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "tokenizer/vocabulary_pruning.h"

namespace attar {

std::vector<int64_t> token_counts(const TokenRows& rows, int64_t vocab) {
  std::vector<int64_t> counts(static_cast<size_t>(vocab), 0);
  for (int64_t row = 0; row < rows.rows(); ++row) {
    const at::Tensor used = rows.ids[row].slice(0, 0, rows.lengths[row].item<int64_t>()).contiguous();
    const int32_t* ids = used.const_data_ptr<int32_t>();
    for (int64_t t = 0; t < used.numel(); ++t)
      if (ids[t] >= 0 && ids[t] < vocab) ++counts[static_cast<size_t>(ids[t])];
  }
  return counts;
}

Checkpoint prune_vocabulary(const Checkpoint& model, const std::vector<int64_t>& counts, int64_t least) {
  check(least > 0, "vocabulary", "0 or more", std::to_string(least));
  check(model.tokenizer != nullptr, "pruning the vocabulary", "a model with its tokenizer", "none beside it");
  const int64_t tokens = model.tokenizer->size();
  check(tokens <= model.spec.vocab, "pruning the vocabulary", str("at most ", model.spec.vocab, " tokens, the embedding's rows"), str(tokens));
  std::vector<bool> used(static_cast<size_t>(tokens), false);
  for (size_t id = 0; id < used.size() && id < counts.size(); ++id) used[id] = counts[id] >= least;
  const auto keep = [&](int64_t id) {
    if (id >= 0 && id < tokens) used[static_cast<size_t>(id)] = true;
  };
  keep(model.spec.bos), keep(model.spec.pad);
  for (int64_t id : model.spec.eos) keep(id);
  const PrunedTokenizer pruned = prune_tokenizer(*model.tokenizer, std::move(used));

  Checkpoint out = model;
  out.codes.clear();
  out.tokenizer = pruned.tokenizer;
  out.spec.vocab = static_cast<int64_t>(pruned.kept.size());
  std::map<int64_t, int64_t> number;
  for (size_t i = 0; i < pruned.kept.size(); ++i) number[pruned.kept[i]] = static_cast<int64_t>(i);
  const auto renumber = [&](int64_t& id) {
    const auto found = number.find(id);
    id = found == number.end() ? -1 : found->second;
  };
  renumber(out.spec.bos), renumber(out.spec.pad);
  for (int64_t& id : out.spec.eos) renumber(id);
  std::erase(out.spec.eos, -1);
  const at::Tensor rows = at::tensor(std::vector<int64_t>(pruned.kept.begin(), pruned.kept.end()), at::kLong);
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    if (const auto found = out.weights.find(name); found != out.weights.end()) found->second = found->second.index_select(0, rows).contiguous();
  return out;
}

}  // namespace attar
