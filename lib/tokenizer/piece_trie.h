#pragma once
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace attar {

/// Texts and their ids, walked along byte by byte (a double array: one memory access a byte).
class PieceTrie {
 public:
  PieceTrie() = default;
  /// Empty texts are left out; of two equal ones the first holds. Ids are not negative. O(bytes of all texts) memory.
  explicit PieceTrie(std::vector<std::pair<std::string_view, int32_t>> texts);
  bool empty() const { return cells_.empty(); }

  /// Calls `found(end, id)` for every text that begins at `at`, shortest first; `end` is the place behind it.
  template <class Found>
  void walk(std::string_view text, size_t at, Found&& found) const {
    if (cells_.empty()) return;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const uint32_t next = cells_[node].base + static_cast<uint8_t>(text[i]);
      const Cell& cell = cells_[next];
      if (cell.parent != node) return;
      if (cell.id >= 0) found(i + 1, cell.id);
      node = next;
    }
  }

  /// End of the longest text that begins at `at` and its id; {at, -1} if there is none.
  std::pair<size_t, int32_t> longest(std::string_view text, size_t at) const {
    std::pair<size_t, int32_t> out{at, -1};
    walk(text, at, [&](size_t end, int32_t id) { out = {end, id}; });
    return out;
  }

 private:
  static constexpr uint32_t kFree = UINT32_MAX;
  struct Cell {
    uint32_t base = 0;        ///< where the children's 256 places begin
    uint32_t parent = kFree;
    int32_t id = -1;
  };
  uint32_t place(const std::vector<uint8_t>& bytes);
  std::vector<Cell> cells_;
  size_t first_free_ = 1;     ///< no free cell lies before it
};

}  // namespace attar
