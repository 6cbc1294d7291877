#include "quant/budget.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "data_path.h"
#include "quant/knapsack.h"
#include "small_model.h"

namespace attar {
namespace {

std::vector<std::vector<KnapsackOption>> random_items(size_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<std::vector<KnapsackOption>> items(count);
  for (auto& options : items)
    for (int o = 0; o < 3; ++o) options.push_back({10 + rng.below(90), rng.uniform()});
  return items;
}

/// Every combination.
double best_loss(const std::vector<std::vector<KnapsackOption>>& items, int64_t budget) {
  double best = INFINITY;
  size_t all = 1;
  for (const auto& options : items) all *= options.size();
  for (size_t n = 0; n < all; ++n) {
    int64_t bytes = 0;
    double loss = 0;
    size_t rest = n;
    for (const auto& options : items) {
      bytes += options[rest % options.size()].bytes;
      loss += options[rest % options.size()].loss;
      rest /= options.size();
    }
    if (bytes <= budget) best = std::min(best, loss);
  }
  return best;
}

TEST(Knapsack, IsTheBestOfAllCombinations) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto items = random_items(7, seed);
    int64_t least = 0;
    for (const auto& options : items) least += std::min({options[0].bytes, options[1].bytes, options[2].bytes});
    for (const int64_t budget : {least, least + 40, least + 150, least + 10000}) {
      const KnapsackChoice choice = solve_knapsack(items, budget);
      EXPECT_EQ(choice.granularity, 1);
      EXPECT_NEAR(choice.loss, best_loss(items, budget), 1e-12) << seed << " " << budget;
      int64_t bytes = 0;
      double loss = 0;
      for (size_t i = 0; i < items.size(); ++i) bytes += items[i][choice.options[i]].bytes, loss += items[i][choice.options[i]].loss;
      EXPECT_EQ(bytes, choice.bytes);
      EXPECT_LE(bytes, budget);
      EXPECT_NEAR(loss, choice.loss, 1e-12);
    }
  }
}

TEST(Knapsack, CoarserStepsStayWithinTheBudgetAndSaySo) {
  const auto items = random_items(9, 4);
  int64_t least = 0;
  for (const auto& options : items) least += std::min({options[0].bytes, options[1].bytes, options[2].bytes});
  const KnapsackChoice exact = solve_knapsack(items, least + 200), coarse = solve_knapsack(items, least + 200, 5);
  EXPECT_GT(coarse.granularity, 1);
  EXPECT_LE(coarse.bytes, least + 200);
  EXPECT_GE(coarse.loss, exact.loss);
  EXPECT_LE(solve_knapsack(items, least, 1).bytes, least);
  EXPECT_THROW(solve_knapsack(items, least - 1), Error);
}

struct BudgetCase {
  Checkpoint model;
  TokenRows rows;
  BudgetCase() {
    model = small_model(small_shape(96, 64, 16, 2, LayerSpec{.ffn = 160, .heads = 4, .kv_heads = 2}, 64), 3, 4, 4);
    rows = random_token_rows(6, 16, 96, 8);
    cut_row(rows, 1, 10);
  }
};

TEST(Budget, SensitivityIsTheKlOfTheModelWithOneTensorRounded) {
  const BudgetCase c;
  const auto group = single_process();
  const std::vector<MeasuredTensor> measured = measure_sensitivity(c.model, {GgmlType::q4_0, GgmlType::q8_0, GgmlType::q4_k}, true, c.rows, {},
                                                                   Rounding::ggml, {.rows = 6, .batch = 4}, *group);
  ASSERT_EQ(measured.size(), 2u * 7 + 2);
  at::NoGradGuard no_grad;
  const auto log_probabilities = [&](const StateDict& weights) {
    const Decoder decoder(c.model.spec, weights);
    const at::Tensor hidden = decoder.hidden({c.rows.ids.to(at::kLong), c.rows.segments, {}, {}});
    return at::log_softmax(decoder.logits(hidden).to(at::kDouble), -1).reshape({-1, 96}).index({c.rows.segments.reshape({-1}) >= 0});
  };
  const at::Tensor whole = log_probabilities(c.model.weights);
  for (const MeasuredTensor& tensor : measured) {
    ASSERT_EQ(tensor.types.size(), 3u);  // q4_k falls back to q5_0 for these rows
    EXPECT_EQ(tensor.types[2].type, GgmlType::q5_0);
    EXPECT_EQ(tensor.types[0].bytes, tensor.group.rows * ggml_row_bytes(GgmlType::q4_0, tensor.group.columns));
    for (const MeasuredType& type : tensor.types) {
      StateDict weights = c.model.weights;
      for (const std::string& name : tensor.group.weights) weights.at(name) = dequantize_tensor(quantize_tensor(weights.at(name), type.type));
      const double kl = (whole.exp() * (whole - log_probabilities(weights))).sum(-1).mean().item<double>();
      EXPECT_NEAR(type.kl, kl, 1e-6 + 1e-3 * kl) << tensor.group.gguf;
    }
  }
}

TEST(Budget, GoesOnWhereItWasKilledAndKeepsToItsOwn) {
  const BudgetCase c;
  const TestFolder folder;
  const auto group = single_process();
  const SensitivityOptions options{.rows = 6, .batch = 4, .partial = folder.path() / "sensitivity.json"};
  const auto first = measure_sensitivity(c.model, {GgmlType::q4_0}, true, c.rows, {}, Rounding::ggml, options, *group);
  Json kept = read_json(options.partial);
  kept["kl"]["blk.1.ffn_up.weight"]["q4_0"] = 123.0;
  kept["kl"].erase("blk.0.attn_q.weight");
  write_json(options.partial, kept);
  const auto again = measure_sensitivity(c.model, {GgmlType::q4_0}, true, c.rows, {}, Rounding::ggml, options, *group);
  for (size_t i = 0; i < first.size(); ++i)
    EXPECT_EQ(again[i].types[0].kl, first[i].group.gguf == "blk.1.ffn_up.weight" ? 123.0 : first[i].types[0].kl) << first[i].group.gguf;
  // Another rounding is another measurement.
  const auto other = measure_sensitivity(c.model, {GgmlType::q4_0}, true, c.rows, {}, Rounding::search, options, *group);
  for (const MeasuredTensor& tensor : other) EXPECT_LT(tensor.types[0].kl, 100);
}

TEST(Budget, PlanFitsAndTooSmallABudgetNamesTheSmallest) {
  const BudgetCase c;
  std::vector<MeasuredTensor> measured;
  Rng rng(5);
  for (const TypeGroup& group : type_groups(c.model.spec, true)) {
    MeasuredTensor tensor{group, {}};
    for (const GgmlType type : {GgmlType::q4_0, GgmlType::q8_0})
      tensor.types.push_back({type, group.rows * ggml_row_bytes(type, group.columns), rng.uniform() * (type == GgmlType::q4_0 ? 1 : 0.01)});
    measured.push_back(tensor);
  }
  BudgetConfig budget;
  budget.bits = 6;
  EXPECT_TRUE(has_budget(budget));
  const BudgetPlan plan = plan_for_budget(c.model.spec, measured, budget);
  EXPECT_LE(plan.bytes, plan.limit);
  EXPECT_EQ(plan.bytes, tensor_bytes(c.model.spec, plan.plan.types));
  EXPECT_EQ(plan.limit, int64_t(6.0 * double(parameter_count(c.model.spec)) / 8));
  EXPECT_EQ(plan.granularity, 1);
  bool small = false, large = false;
  for (const auto& [name, type] : plan.plan.types) small |= type == GgmlType::q4_0, large |= type == GgmlType::q8_0;
  EXPECT_TRUE(small && large);
  std::map<std::string, GgmlType> smallest;
  for (const auto& [name, type] : plan.plan.types) smallest[name] = GgmlType::q4_0;
  budget.bits = 0, budget.bytes = tensor_bytes(c.model.spec, smallest);
  EXPECT_EQ(plan_for_budget(c.model.spec, measured, budget).plan.types, smallest);
  --budget.bytes;
  try {
    plan_for_budget(c.model.spec, measured, budget);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(budget.bytes + 1)), std::string::npos) << error.what();
  }
  budget.bits = 4;
  EXPECT_THROW(has_budget(budget), Error);
  EXPECT_FALSE(has_budget(BudgetConfig{}));
}

}  // namespace
}  // namespace attar
