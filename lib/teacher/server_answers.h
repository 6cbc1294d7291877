#pragma once
// What servers answer, as positions; inside of the teacher room. No LibTorch here. Every function throws Error in one sentence that begins with
// `name` when an answer is not what was asked for.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "teacher/codec.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// vLLM's /v1/completions with prompt_logprobs: choices[0].prompt_logprobs is a list beside the prompt, null first, then maps from id to
/// {logprob, rank}: the k likeliest and the prompt's own token.
std::vector<SaidPosition> read_vllm_answer(const Json& answer, const std::vector<int32_t>& ids, int64_t k, const std::string& name);

/// llama.cpp server's /completion with n_predict 1 and n_probs k: completion_probabilities[0].top_logprobs, a list of {id, logprob} by falling value.
SaidPosition read_llama_answer(const Json& answer, int32_t label, int64_t k, const std::string& name);

/// Which ids show as which text: servers of the echo kind name tokens by their text alone.
class TokenTexts {
 public:
  explicit TokenTexts(const Tokenizer& tokenizer);
  const std::string& of(int32_t id) const { return texts_.at(static_cast<size_t>(id)); }
  /// The ids of a text; of several only those that are no single bytes count, if there are any.
  const std::vector<int32_t>& ids(const std::string& text) const;

 private:
  std::vector<std::string> texts_;
  std::map<std::string, std::vector<int32_t>> ids_;
};

/// /v1/completions with echo and logprobs k, as llama-cpp-python's server gives it: choices[0].logprobs with tokens, token_logprobs and top_logprobs
/// (maps from text to log-probability), BOS left out, null for the first token after it. `bos`: id left out, -1 if none.
/// A text that stands for several ids counts for the tail, but the prompt's own token, whose value stands by itself.
std::vector<SaidPosition> read_echo_answer(const Json& answer, const std::vector<int32_t>& ids, int32_t bos, int64_t k, const TokenTexts& texts,
                                           const std::string& name);

}  // namespace attar
