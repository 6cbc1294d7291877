#pragma once
#include <cstdint>
#include <vector>

#include "eval/label_trie.h"
#include "model/decoder.h"

namespace attar {

/// What a model gives the edges of an answers' tree after one prompt.
struct EdgeScores {
  std::vector<double> log_probs;   ///< per edge: of its token after everything above it, nats, log-softmax in float64
  std::vector<uint8_t> likeliest;  ///< per edge: 1 if no token of the vocabulary is likelier there
};

/// Scores every prompt's tree with tree attention: one forward pass of a batch serves all answers. prompts: ids, none empty; trees: one for
/// each prompt, or one for all. `batch_tokens`: positions a forward pass; `label` stands in the progress.
/// Error if a prompt with its longest answer exceeds the model's context.
std::vector<EdgeScores> score_answers(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts, const std::vector<LabelTrie>& trees,
                                      int64_t batch_tokens, const std::string& label);

/// Log-likelihood of each answer of a tree: the sums of their edges.
std::vector<double> answer_sums(const LabelTrie& tree, const EdgeScores& scores);

/// Greedy writing that may only go along the tree: at every node the likeliest of the edges that leave it (the first of equals).
struct ConstrainedChoice {
  int64_t answer = 0;             ///< index of the answer that it ends with
  std::vector<double> log_probs;  ///< per answer: of being written when each token is drawn among the allowed ones only
};
ConstrainedChoice constrained_choice(const LabelTrie& tree, const EdgeScores& scores);

}  // namespace attar
