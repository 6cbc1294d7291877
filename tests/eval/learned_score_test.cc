#include "eval/learned_score.h"

#include <cmath>

#include "base/check.h"
#include "data_path.h"
#include "eval/tiny_decoder.h"

namespace attar {
namespace {

struct LearnedRows {
  at::Tensor states;
  std::vector<double> correct;
};

/// States of uneven scale and offset; an answer is right with a probability that the first two features tell.
LearnedRows learned_rows(int64_t n, int64_t width, uint64_t seed) {
  LearnedRows out{at::empty({n, width}, at::kDouble), {}};
  Rng rng(seed, stream_of("learned rows"));
  for (int64_t i = 0; i < n; ++i) {
    double* row = out.states.data_ptr<double>() + i * width;
    for (int64_t d = 0; d < width; ++d) row[d] = rng.normal();
    const double p = 1 / (1 + std::exp(-(3 * row[0] - 2 * row[1] + 0.5)));
    for (int64_t d = 0; d < width; ++d) row[d] = 10.0 * static_cast<double>(d % 3 + 1) * row[d] + 100;
    out.correct.push_back(rng.uniform() < p ? 1 : 0);
  }
  return out;
}

/// Largest entry of the objective's gradient, by plain sums over standardised features; 0 at the one minimum that there is.
double worst_gradient(const LearnedScore& score, const LearnedRows& rows) {
  const int64_t n = rows.states.size(0), width = rows.states.size(1);
  const double* x = rows.states.const_data_ptr<double>();
  double worst = 0, intercept = 0;
  std::vector<double> residual;
  for (int64_t i = 0; i < n; ++i) {
    double z = score.bias;
    for (int64_t d = 0; d < width; ++d) z += score.weights[static_cast<size_t>(d)] * x[i * width + d];
    residual.push_back(1 / (1 + std::exp(-z)) - rows.correct[static_cast<size_t>(i)]);
    intercept += residual.back();
  }
  for (int64_t d = 0; d < width; ++d) {
    double mean = 0, square = 0, sum = 0;
    for (int64_t i = 0; i < n; ++i) mean += x[i * width + d] / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) square += std::pow(x[i * width + d] - mean, 2) / static_cast<double>(n);
    const double deviation = std::sqrt(square);
    for (int64_t i = 0; i < n; ++i) sum += residual[static_cast<size_t>(i)] * (x[i * width + d] - mean) / deviation;
    worst = std::max(worst, std::abs(sum + score.l2 * score.weights[static_cast<size_t>(d)] * deviation));
  }
  return std::max(worst, std::abs(intercept));
}

/// Share of pairs of a right and a wrong answer that are in order.
double in_order(const std::vector<double>& shares, const std::vector<double>& correct) {
  double good = 0, pairs = 0;
  for (size_t i = 0; i < shares.size(); ++i)
    for (size_t j = 0; j < shares.size(); ++j)
      if (correct[i] > correct[j]) pairs += 1, good += shares[i] > shares[j] ? 1 : shares[i] == shares[j] ? 0.5 : 0;
  return good / pairs;
}

TEST(LearnedScore, IsTheMinimumAlsoWithMoreFeaturesThanRows) {
  for (const int64_t width : {6, 150}) {
    const LearnedRows rows = learned_rows(90, width, 4);
    const LearnedScore score = fit_learned_score(rows.states, rows.correct, "last");
    EXPECT_LT(worst_gradient(score, rows), 1e-4) << width;
    EXPECT_EQ(score.weights.size(), static_cast<size_t>(width));
    EXPECT_GT(score.l2, 0);
    const LearnedScore again = fit_learned_score(rows.states, rows.correct, "last");
    EXPECT_EQ(again.weights, score.weights);
    EXPECT_EQ(again.bias, score.bias);
  }
}

TEST(LearnedScore, OrdersRowsThatItHasNotSeen) {
  const LearnedRows rows = learned_rows(400, 12, 4), fresh = learned_rows(400, 12, 5);
  const LearnedScore score = fit_learned_score(rows.states, rows.correct, "last");
  EXPECT_GT(in_order(learned_scores(score, fresh.states), fresh.correct), 0.9);
  EXPECT_LT(score.log_loss, 0.45);  // an even guess has 0.69
}

TEST(LearnedScore, ComesBackFromJsonAndRefusesOtherWidths) {
  const LearnedRows rows = learned_rows(60, 5, 1);
  const LearnedScore score = fit_learned_score(rows.states, rows.correct, "mean");
  const LearnedScore read = LearnedScore::from_json(parse_json(to_line(score.to_json()), "x"), "x");
  EXPECT_EQ(learned_scores(read, rows.states), learned_scores(score, rows.states));
  EXPECT_THROW(learned_scores(score, rows.states.slice(1, 0, 4)), Error);
  EXPECT_THROW(LearnedScore::from_json(Json{{"of", "first"}, {"weights", {1.0}}, {"bias", 0.0}}, "x"), Error);
  EXPECT_THROW(LearnedScore::from_json(Json{{"of", "last"}, {"weights", Json::array()}, {"bias", 0.0}}, "x"), Error);
  EXPECT_THROW(LearnedScore::from_json(Json(3), "x"), Error);
}

TEST(LearnedScore, AModelThatIsAlwaysRightTeachesNothing) {
  const LearnedRows rows = learned_rows(40, 5, 1);
  const LearnedScore score = fit_learned_score(rows.states, std::vector<double>(40, 1), "last");
  EXPECT_EQ(score.weights, std::vector<double>(5, 0));
  EXPECT_NEAR(learned_scores(score, rows.states)[3], 40.5 / 41, 1e-12);
  EXPECT_THROW(fit_learned_score(rows.states.slice(0, 0, 19), std::vector<double>(19, 1), "last"), Error);
  EXPECT_THROW(fit_learned_score(rows.states, std::vector<double>(39, 1), "last"), Error);
}

TEST(LearnedScore, StatesOfPromptsDoNotDependOnTheirBatch) {
  const at::NoGradGuard no_grad;
  const Decoder model = tiny_decoder(2, 16);
  const std::vector<std::vector<int32_t>> prompts = {
      {5, 6, 7}, {9}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, {8, 7, 6, 5}};
  const at::Tensor last = prompt_states(model, prompts, "last"), mean = prompt_states(model, prompts, "mean");
  for (size_t i = 0; i < prompts.size(); ++i) {
    // The third is longer than the context: its end counts.
    const std::vector<int32_t> used(prompts[i].end() - std::min<ptrdiff_t>(16, static_cast<ptrdiff_t>(prompts[i].size())), prompts[i].end());
    const at::Tensor alone = model.hidden({at::tensor(used, at::kInt).to(at::kLong).unsqueeze(0), {}, {}, {}})[0].to(at::kDouble);
    EXPECT_TRUE(at::allclose(last[static_cast<int64_t>(i)], alone[-1], 1e-4, 1e-4)) << i;
    EXPECT_TRUE(at::allclose(mean[static_cast<int64_t>(i)], alone.mean(0), 1e-4, 1e-4)) << i;
  }
  EXPECT_THROW(prompt_states(model, prompts, "first"), Error);
  EXPECT_THROW(prompt_states(model, {{}}, "last"), Error);
}

}  // namespace
}  // namespace attar
