#pragma once
#include <cstdint>
#include <vector>

namespace attar {

/// One way to store an item, and what it costs.
struct KnapsackOption {
  int64_t bytes;
  double loss;
};

struct KnapsackChoice {
  std::vector<size_t> options;  ///< one an item
  int64_t bytes = 0;
  double loss = 0;
  int64_t granularity = 1;      ///< bytes were counted in steps of this, rounded up; 1: the choice is the best there is
};

/// One option for each item, of least total loss within `budget` bytes: dynamic programming over the totals that can be reached, of which only
/// those that no other beats in both bytes and loss are kept. Above `most_states` of them, bytes are counted in coarser steps, twice as coarse until
/// they fit. The budget must hold the smallest option of every item.
KnapsackChoice solve_knapsack(const std::vector<std::vector<KnapsackOption>>& items, int64_t budget, int64_t most_states = 400000);

}  // namespace attar
