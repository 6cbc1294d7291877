#include "tokenizer/piece_trie.h"

#include <algorithm>

#include "base/check.h"

namespace attar {

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, int32_t>> texts) {
  std::stable_sort(texts.begin(), texts.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  texts.erase(std::unique(texts.begin(), texts.end(), [](const auto& a, const auto& b) { return a.first == b.first; }), texts.end());
  if (!texts.empty() && texts[0].first.empty()) texts.erase(texts.begin());
  if (texts.empty()) return;
  cells_.resize(1024);
  cells_[0].parent = 0;
  // Nodes that wait for their children: the sorted texts from `begin` to `end` share `depth` bytes and lead to `node`.
  struct Task {
    size_t begin, end, depth;
    uint32_t node;
  };
  std::vector<Task> waiting{{0, texts.size(), 0, 0}};
  std::vector<uint8_t> bytes;
  std::vector<size_t> starts;
  while (!waiting.empty()) {
    const Task task = waiting.back();
    waiting.pop_back();
    size_t begin = task.begin;
    if (task.depth > 0 && texts[begin].first.size() == task.depth) cells_[task.node].id = texts[begin++].second;
    bytes.clear();
    starts.clear();
    for (size_t i = begin; i < task.end; ++i) {
      const auto byte = static_cast<uint8_t>(texts[i].first[task.depth]);
      if (!bytes.empty() && bytes.back() == byte) continue;
      bytes.push_back(byte);
      starts.push_back(i);
    }
    if (bytes.empty()) continue;
    const uint32_t base = place(bytes);
    cells_[task.node].base = base;
    for (size_t i = 0; i < bytes.size(); ++i) {
      cells_[base + bytes[i]].parent = task.node;
      waiting.push_back({starts[i], i + 1 < starts.size() ? starts[i + 1] : task.end, task.depth + 1, base + bytes[i]});
    }
  }
}

uint32_t PieceTrie::place(const std::vector<uint8_t>& bytes) {
  while (first_free_ < cells_.size() && cells_[first_free_].parent != kFree) ++first_free_;
  // Few tries near the front, where cells are scarce; then the end. What is left unused stays small.
  size_t tries = 0, at = std::max<size_t>(first_free_, bytes[0] + size_t{1});
  for (;; ++at) {
    if (at - bytes[0] + 512 > cells_.size()) cells_.resize(cells_.size() + cells_.size() / 2 + 512);
    if (cells_[at].parent != kFree) continue;
    const size_t base = at - bytes[0];
    const bool fits = std::all_of(bytes.begin(), bytes.end(), [&](uint8_t byte) { return cells_[base + byte].parent == kFree; });
    if (fits) {
      if (base > UINT32_MAX / 2) fail("a vocabulary", "less text in its tokens", str(base, " trie cells"));
      return static_cast<uint32_t>(base);
    }
    // A region that was searched often in vain is not searched again.
    if (++tries == 64 && at > first_free_ + 4096) first_free_ = at - 4096;
  }
}

}  // namespace attar
