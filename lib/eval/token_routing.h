#pragma once
#include <optional>
#include <vector>

#include "base/json.h"
#include "eval/statistics.h"
#include "model/decoder.h"
#include "teacher/cache.h"

namespace attar {

struct TokenRoutingOptions {
  int64_t batch = 16;        ///< rows of one forward pass
  int64_t rows = 0;          ///< only the first so many; 0: all
  int64_t draft = 8;         ///< longest draft that is looked at
  double cost_ratio = 0;     ///< a token of the student as a share of a call of the large model; 0: not known
};

/// The student as a draft of `tokens` tokens that one call of the large model checks, accepts up to the first refused one and goes on from
/// (Leviathan et al. 2023, arXiv 2211.17192).
struct DraftPoint {
  int64_t tokens = 0;
  double per_call = 1;                      ///< (1 - a^(k+1)) / (1 - a) of the mean acceptance a: as if positions were independent (equation 1 there)
  std::optional<double> per_call_in_text;   ///< mean over the texts' own runs of positions; none: no run is so long
  std::optional<double> speed_up;           ///< per_call_in_text (else per_call) over 1 + k * cost_ratio; none: the ratio is not known
};

/// Tokens that the student keeps where its likeliest one has this probability or more; the large model says the others.
struct KeptPoint {
  double at_least = 0, kept = 0;                     ///< share of all tokens
  std::optional<double> same_top, acceptance;        ///< among the kept ones; none: none is kept
  double same_top_of_all = 0;                        ///< the large model's own tokens count as right
  std::optional<double> cost;                        ///< of the large model saying all: cost_ratio + 1 - kept
};

/// What routing token by token would give, simulated over a teacher's cache. Distributions are compared at the cache's temperature.
struct TokenRouting {
  std::string codec;
  int64_t tokens = 0, unknown = 0;   ///< positions compared; positions of which a server said nothing
  double temperature = 1, cost_ratio = 0;
  MeanError kl;                      ///< KL(teacher || student), nats a token: full: of the kept distributions; top_k: with all that was dropped as
                                     ///< one token, a lower bound; sampled: unbiased (cross-entropy of the draws minus the kept entropy)
  bool distributions = false;        ///< what follows is known: not from sampled caches, whose draws do not give min(p, q)
  MeanError acceptance;              ///< mean of sum over tokens of min(p, q); top_k: over the kept tokens, a lower bound
  double acceptance_at_most = 0;     ///< top_k: with min(teacher's tail, student's tail) on top; full: the same
  MeanError same_top;
  std::vector<DraftPoint> drafts;
  std::vector<KeptPoint> kept;
  Json to_json() const;
};

/// Runs the student once over the cache's rows. Memory: a forward pass, a slice of logits, 24 bytes a token.
/// The rows must be those of the cache (CacheReader::check_identity: the caller's). Error if they are not as many, or nothing in them is learned.
TokenRouting token_routing(const Decoder& student, const CacheReader& cache, const TokenRows& rows, const TokenRoutingOptions& options);

}  // namespace attar
