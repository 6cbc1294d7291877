#include "quant/knapsack.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/check.h"

namespace attar {
namespace {

/// A total after some items, and how it came about.
struct KnapsackState {
  int64_t bytes;
  double loss;
  int32_t before;  ///< index among the states before this item
  int32_t option;
};

int64_t in_steps(int64_t bytes, int64_t step) { return (bytes + step - 1) / step * step; }

/// The choice, or nothing if an item leaves more than `most` totals. The budget is for bytes rounded up.
std::optional<KnapsackChoice> solve_in_steps(const std::vector<std::vector<KnapsackOption>>& items, int64_t budget, int64_t step, int64_t most) {
  std::vector<int64_t> least_after(items.size() + 1, 0);
  for (size_t i = items.size(); i-- > 0;) {
    int64_t least = std::numeric_limits<int64_t>::max();
    for (const KnapsackOption& option : items[i]) least = std::min(least, in_steps(option.bytes, step));
    least_after[i] = least_after[i + 1] + least;
  }
  if (least_after[0] > budget) return std::nullopt;
  std::vector<std::vector<KnapsackState>> layers = {{{0, 0.0, -1, -1}}};
  for (size_t i = 0; i < items.size(); ++i) {
    std::vector<KnapsackState> all;
    for (size_t s = 0; s < layers[i].size(); ++s)
      for (size_t o = 0; o < items[i].size(); ++o) {
        const int64_t bytes = layers[i][s].bytes + in_steps(items[i][o].bytes, step);
        if (bytes + least_after[i + 1] <= budget)
          all.push_back({bytes, layers[i][s].loss + items[i][o].loss, static_cast<int32_t>(s), static_cast<int32_t>(o)});
      }
    std::stable_sort(all.begin(), all.end(),
                     [](const KnapsackState& a, const KnapsackState& b) { return a.bytes != b.bytes ? a.bytes < b.bytes : a.loss < b.loss; });
    std::vector<KnapsackState> kept;
    for (const KnapsackState& state : all)
      if (kept.empty() || state.loss < kept.back().loss) kept.push_back(state);
    if (static_cast<int64_t>(kept.size()) > most) return std::nullopt;
    layers.push_back(std::move(kept));
  }
  KnapsackChoice choice;
  choice.granularity = step;
  choice.options.resize(items.size());
  size_t at = layers.back().size() - 1;  // the largest that fits loses least
  for (size_t i = items.size(); i-- > 0;) {
    const KnapsackState& state = layers[i + 1][at];
    choice.options[i] = static_cast<size_t>(state.option);
    choice.bytes += items[i][choice.options[i]].bytes;
    choice.loss += items[i][choice.options[i]].loss;
    at = static_cast<size_t>(state.before);
  }
  return choice;
}

}  // namespace

KnapsackChoice solve_knapsack(const std::vector<std::vector<KnapsackOption>>& items, int64_t budget, int64_t most_states) {
  int64_t least = 0;
  for (const auto& options : items) {
    check(!options.empty(), "knapsack", "an option for every item", "none");
    least += std::min_element(options.begin(), options.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; })->bytes;
  }
  check(least <= budget, "budget", str(least, " bytes or more"), str(budget));
  for (int64_t step = 1; step <= budget; step *= 2)
    if (auto choice = solve_in_steps(items, budget, step, most_states)) return *choice;
  // Too tight for rounded bytes: everything at its smallest.
  KnapsackChoice choice;
  choice.granularity = budget;
  for (const auto& options : items) {
    const auto smallest = std::min_element(options.begin(), options.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
    choice.options.push_back(static_cast<size_t>(smallest - options.begin()));
    choice.bytes += smallest->bytes, choice.loss += smallest->loss;
  }
  return choice;
}

}  // namespace attar
