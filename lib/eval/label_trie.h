#pragma once
#include <cstdint>
#include <vector>

namespace attar {

/// All answers of a task as one tree of token ids, so that what they share is computed once. Node 0 is the end of the prompt.
class LabelTrie {
 public:
  /// `answers`: ids of each label, none empty.
  explicit LabelTrie(const std::vector<std::vector<int32_t>>& answers);

  /// Nodes whose token is put into the model: those that something follows, without node 0, parents before children.
  int64_t inputs() const { return static_cast<int64_t>(input_ids_.size()); }
  const std::vector<int32_t>& input_ids() const { return input_ids_; }
  const std::vector<int64_t>& input_depths() const { return input_depths_; }  ///< 1 for children of node 0
  const std::vector<int64_t>& input_parents() const { return input_parents_; }  ///< index of the parent among inputs, -1: the prompt's end

  /// Every edge: token `id` after the position of input `from` (-1: the prompt's end).
  struct Edge {
    int64_t from;
    int32_t id;
  };
  const std::vector<Edge>& edges() const { return edges_; }
  /// Edges of a label from the prompt to its end: its log-likelihood is the sum of theirs.
  const std::vector<std::vector<int64_t>>& label_edges() const { return label_edges_; }
  int64_t depth() const { return depth_; }  ///< longest answer in tokens

 private:
  std::vector<int32_t> input_ids_;
  std::vector<int64_t> input_depths_, input_parents_;
  std::vector<Edge> edges_;
  std::vector<std::vector<int64_t>> label_edges_;
  int64_t depth_ = 0;
};

}  // namespace attar
