#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "spec/configs.h"
#include "spec/model_spec.h"

namespace attar {

/// One shape under the limit.
struct Candidate {
  PruneConfig config;   ///< shares and vocabulary that give it
  ModelSpec spec;       ///< what it is, vocabulary included
  double cost = 0;      ///< in the limit's unit
  std::optional<double> loss, recovered;  ///< nats a token of the whole model's text: after surgery, after a short recovery
};

/// What a search must stay within.
struct SearchLimit {
  std::string unit;     ///< "parameters", "bytes" or "ms_per_token"
  double most = 0;
  std::function<double(const ModelSpec& spec, int64_t vocabulary)> cost;  ///< of a shape whose tokens were chosen by this least count
};
/// Which limit is asked for; unit "" if none. Error if there are several.
SearchLimit search_limit(const SearchConfig& config);
bool has_search(const SearchConfig& config);

/// For every combination of the shares to try, the widest FFN within the limit; shapes that another one holds on every axis are left out, and of more
/// than config.search.candidates a seeded draw stays. `vocabularies`: size by least count. Error: no shape within the limit; names the nearest there is.
std::vector<Candidate> search_candidates(const ModelSpec& spec, const PruneConfig& config, const std::map<int64_t, int64_t>& vocabularies,
                                         const SearchLimit& limit, uint64_t seed);

/// How candidates are judged; given by who knows a trainer.
struct SearchJudges {
  std::function<double(const Candidate&)> loss;
  std::function<double(const Candidate&, size_t number)> recovered;
};
/// Judges all, the best few twice, and returns the number of the best: least recovered loss among the finalists, else least loss; of equals the
/// first. `state`: what is known is kept there after each judgement (empty: nowhere) if `writes`, and read back where `fingerprint` is the same.
size_t search_best(std::vector<Candidate>& candidates, const SearchConfig& config, const SearchJudges& judges, const fs::path& state,
                   const std::string& fingerprint, bool writes);

/// {unit, limit, chosen, candidates: [{ffn, heads, kv_heads, hidden, layers, vocab, parameters, cost, loss, recovered}]}, best first.
Json search_table(const std::vector<Candidate>& candidates, size_t best, const SearchLimit& limit);

}  // namespace attar
