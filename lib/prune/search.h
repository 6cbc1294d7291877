#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "formats/ggml_types.h"
#include "spec/configs.h"
#include "spec/model_spec.h"

namespace attar {

/// One shape under the limit.
struct Candidate {
  PruneConfig config;   ///< shares and vocabulary that give it
  ModelSpec spec;       ///< what it is, vocabulary included
  double cost = 0;      ///< in the limit's unit
  std::optional<double> loss, recovered;  ///< nats a token of the whole model's text: after surgery, after a short recovery
  std::string type;     ///< of the limit's types, the one that its widths were found with; "" where there is no choice
  std::map<std::string, GgmlType> types;  ///< by weight, what the judge of the loss chose within the limit; empty: nobody chose
};

/// What a search must stay within.
struct SearchLimit {
  std::string unit;     ///< "parameters", "bytes" or "ms_per_token"
  double most = 0;
  std::vector<std::string> types = {""};  ///< of the file: for each the widest shapes are found, because few bits leave room for width
  /// Of a shape whose tokens were chosen by this least count, under one of the types.
  std::function<double(const ModelSpec& spec, int64_t vocabulary, const std::string& type)> cost;
};
/// Which limit is asked for; unit "" if none. Error if there are several.
SearchLimit search_limit(const SearchConfig& config);
bool has_search(const SearchConfig& config);

/// For every combination of the shares to try and every type, the widest FFN within the limit; shapes that another one of the same type holds on
/// every axis are left out, and of more than config.search.candidates a seeded draw stays. `vocabularies`: size by least count. Error: no shape
/// within the limit; names the nearest there is.
std::vector<Candidate> search_candidates(const ModelSpec& spec, const PruneConfig& config, const std::map<int64_t, int64_t>& vocabularies,
                                         const SearchLimit& limit, uint64_t seed);

/// How candidates are judged; given by who knows a trainer.
struct SearchJudges {
  std::function<double(Candidate&)> loss;  ///< may choose the candidate's types and say what they cost
  std::function<double(const Candidate&, size_t number)> recovered;
};
/// Judges all, the best few twice, and returns the number of the best: least recovered loss among the finalists, else least loss; of equals the
/// first. `state`: what is known is kept there after each judgement (empty: nowhere) if `writes`, and read back where `fingerprint` is the same.
size_t search_best(std::vector<Candidate>& candidates, const SearchConfig& config, const SearchJudges& judges, const fs::path& state,
                   const std::string& fingerprint, bool writes);

/// {unit, limit, candidates: [{vocab, hidden, layers, heads, kv_heads, ffn, parameters, cost, loss, recovered, chosen, types}]}, best first; types:
/// how many weights have each, where they were chosen.
Json search_table(const std::vector<Candidate>& candidates, size_t best, const SearchLimit& limit);

}  // namespace attar
