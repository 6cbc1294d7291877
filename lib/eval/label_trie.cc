#include "eval/label_trie.h"

#include <algorithm>
#include <map>

#include "base/check.h"

namespace attar {

LabelTrie::LabelTrie(const std::vector<std::vector<int32_t>>& answers) {
  std::map<std::pair<int64_t, int32_t>, int64_t> edge_of;  ///< (input it follows, token) -> edge
  std::map<int64_t, int64_t> input_of;                     ///< edge -> input made of its token
  for (const auto& answer : answers) {
    check(!answer.empty(), "answer of a label", "one token at least", "none");
    depth_ = std::max(depth_, static_cast<int64_t>(answer.size()));
    std::vector<int64_t> path;
    int64_t from = -1;
    for (size_t i = 0; i < answer.size(); ++i) {
      const auto [found, fresh] = edge_of.try_emplace({from, answer[i]}, static_cast<int64_t>(edges_.size()));
      if (fresh) edges_.push_back({from, answer[i]});
      path.push_back(found->second);
      if (i + 1 == answer.size()) break;
      const auto [input, made] = input_of.try_emplace(found->second, inputs());
      if (made) {
        input_ids_.push_back(answer[i]);
        input_depths_.push_back(static_cast<int64_t>(i) + 1);
        input_parents_.push_back(from);
      }
      from = input->second;
    }
    label_edges_.push_back(std::move(path));
  }
}

}  // namespace attar
