#include "kernels/linear_loss.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/check.h"
#include "base/rng.h"

namespace attar {
namespace {

at::Tensor noise(std::vector<int64_t> shape, uint64_t stream, double scale = 1) {
  at::Tensor out = at::empty(shape, at::kDouble);
  Rng rng(5, stream);
  double* values = out.data_ptr<double>();
  for (int64_t i = 0; i < out.numel(); ++i) values[i] = rng.normal() * scale;
  return out;
}

/// One problem: 7 positions of which 2 count for nothing, 11 student ids, 13 teacher ids, 10 in common.
struct LossCase {
  at::Tensor hidden = noise({7, 6}, 1), weight = noise({11, 6}, 2), labels, row_weights;
  LogitTargets targets;
  LossWeights weights;
  double softcap = 0;
  int64_t vocab = 10;
  LossCase() {
    const std::vector<int64_t> ids = {3, -100, 0, 9, 4, -100, 4};
    labels = at::tensor(ids, at::kLong);
  }
  LinearLossResult fused(bool gradients = true) const {
    return linear_loss(hidden, weight, targets, labels, row_weights, weights, softcap, vocab, gradients);
  }
  LinearLossResult plain() const { return linear_loss_plain(hidden, weight, targets, labels, row_weights, weights, softcap, vocab, true); }
};

LogitTargets live_teacher(double softcap = 0) {
  LogitTargets targets;
  targets.kind = LogitTargets::Kind::live;
  targets.hidden = noise({7, 5}, 3);
  targets.weight = noise({13, 5}, 4);
  targets.softcap = softcap;
  return targets;
}
LogitTargets dense_teacher() {
  LogitTargets targets;
  targets.kind = LogitTargets::Kind::dense;
  targets.log_probs = noise({7, 13}, 6, 2).log_softmax(-1);
  return targets;
}
LogitTargets sparse_teacher(bool tail) {
  LogitTargets targets;
  targets.kind = LogitTargets::Kind::sparse;
  const std::vector<int64_t> flat = {3, 0, 9, 1, 2, 3, 5, -1, -1, 0, 1, 2, 4, 6, 8, 7, -1, -1, -1, -1, -1};
  targets.ids = at::tensor(flat, at::kLong).reshape({7, 3}).to(at::kInt);
  const at::Tensor there = targets.ids.ge(0).to(at::kDouble);
  const at::Tensor raw = noise({7, 3}, 8).exp() * there;
  const double kept = tail ? 0.8 : 1.0;
  targets.probs = kept * raw / raw.sum(-1, true).clamp_min(1e-9);
  if (tail) targets.tail = 1 - targets.probs.sum(-1);
  return targets;
}

struct NamedTerm {
  const char* name;
  std::function<void(LossWeights&)> set;
};
const std::vector<NamedTerm>& all_terms() {
  static const std::vector<NamedTerm> terms = {
      {"kl", [](LossWeights& w) { w.kl = 1; }},
      {"kl at T 2", [](LossWeights& w) { w.kl = 1, w.temperature = 2; }},
      {"kl and ce", [](LossWeights& w) { w.kl = 0.7, w.ce = 0.3; }},
      {"kl and ce at T 3", [](LossWeights& w) { w.kl = 0.7, w.ce = 0.3, w.temperature = 3; }},
      {"rkl", [](LossWeights& w) { w.rkl = 1; }},
      {"jsd", [](LossWeights& w) { w.jsd = 1, w.beta = 0.3; }},
      {"jsd 0", [](LossWeights& w) { w.jsd = 1, w.beta = 0; }},
      {"jsd 1 and rkl", [](LossWeights& w) { w.jsd = 1, w.rkl = 0.5, w.beta = 1; }},
      {"skl", [](LossWeights& w) { w.skl = 1, w.lambda = 0.2; }},
      {"srkl", [](LossWeights& w) { w.srkl = 1, w.lambda = 0.2; }},
      {"tvd", [](LossWeights& w) { w.tvd = 1; }},
      {"everything at T 1.7",
       [](LossWeights& w) {
         w.kl = 0.1, w.ce = 0.2, w.rkl = 0.3, w.jsd = 0.4, w.skl = 0.5, w.srkl = 0.6, w.tvd = 0.7;
         w.temperature = 1.7;
       }},
  };
  return terms;
}

double largest_gap(const at::Tensor& a, const at::Tensor& b) { return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(); }

/// Central differences of the loss by every element of `where`.
at::Tensor differences(at::Tensor& where, const std::function<double()>& value) {
  at::Tensor out = at::empty_like(where);
  double* x = where.data_ptr<double>();
  for (int64_t i = 0; i < where.numel(); ++i) {
    const double kept = x[i], step = 1e-5;
    x[i] = kept + step;
    const double high = value();
    x[i] = kept - step;
    const double low = value();
    x[i] = kept;
    out.data_ptr<double>()[i] = (high - low) / (2 * step);
  }
  return out;
}

/// The fused float64 version against differences and against the plain one, both of which share no arithmetic with it.
void check_case(LossCase problem, const std::string& name) {
  SCOPED_TRACE(name);
  const LinearLossResult fused = problem.fused(), plain = problem.plain();
  ASSERT_EQ(fused.loss.scalar_type(), at::kDouble);
  EXPECT_NEAR(fused.loss.item<double>(), plain.loss.item<double>(), 1e-9);
  EXPECT_LT(largest_gap(fused.terms, plain.terms), 1e-9);
  EXPECT_LT(largest_gap(fused.grad_hidden, plain.grad_hidden), 1e-9);
  EXPECT_LT(largest_gap(fused.grad_weight, plain.grad_weight), 1e-9);
  const auto value = [&] { return problem.fused(false).loss.item<double>(); };
  EXPECT_LT(largest_gap(differences(problem.hidden, value), fused.grad_hidden), 2e-8);
  EXPECT_LT(largest_gap(differences(problem.weight, value), fused.grad_weight), 2e-8);
  EXPECT_EQ(fused.grad_hidden[1].abs().max().item<double>(), 0) << "a position without label";
  EXPECT_EQ(fused.grad_weight[10].abs().max().item<double>(), 0) << "beyond the common vocabulary";
  EXPECT_GT(fused.grad_hidden.abs().max().item<double>(), 1e-3);

  // In float32 the vector code runs: tolerance of the precision, not of the formula.
  LossCase single = problem;
  const auto narrow = [](at::Tensor& t) { t = t.defined() ? t.to(at::kFloat) : t; };
  for (at::Tensor* t : {&single.hidden, &single.weight, &single.row_weights, &single.targets.hidden, &single.targets.weight,
                        &single.targets.log_probs,
                        &single.targets.probs, &single.targets.tail}) {
    narrow(*t);
  }
  const LinearLossResult small = single.fused();
  EXPECT_EQ(small.loss.scalar_type(), at::kFloat);
  EXPECT_NEAR(small.loss.item<double>(), plain.loss.item<double>(), 2e-6 * std::abs(plain.loss.item<double>()) + 2e-5);
  EXPECT_LT(largest_gap(small.grad_hidden, plain.grad_hidden), 4e-5);
  EXPECT_LT(largest_gap(small.grad_weight, plain.grad_weight), 4e-5);
}

TEST(LinearLoss, EveryTermAgainstALiveTeacher) {
  for (const NamedTerm& term : all_terms()) {
    LossCase problem;
    problem.targets = live_teacher();
    term.set(problem.weights);
    check_case(problem, term.name);
    problem.row_weights = noise({7}, 9).abs() + 0.1;
    problem.softcap = 3;
    problem.targets.softcap = 2;
    check_case(problem, std::string(term.name) + ", soft caps and row weights");
  }
}

TEST(LinearLoss, EveryTermAgainstStoredDistributions) {
  for (const NamedTerm& term : all_terms()) {
    LossCase problem;
    problem.targets = dense_teacher();
    term.set(problem.weights);
    check_case(problem, term.name);
    problem.softcap = 4;
    problem.row_weights = noise({7}, 9).abs() + 0.1;
    check_case(problem, std::string(term.name) + ", soft cap and row weights");
  }
}

TEST(LinearLoss, SparseTeachers) {
  for (const bool tail : {false, true}) {
    for (const NamedTerm& term : all_terms()) {
      LossCase problem;
      term.set(problem.weights);
      const LossWeights& w = problem.weights;
      if (w.rkl || w.jsd || w.skl || w.srkl || w.tvd) continue;
      problem.targets = sparse_teacher(tail);
      check_case(problem, str(term.name, tail ? ", tail" : ", sampled"));
      problem.softcap = 3;
      problem.row_weights = noise({7}, 9).abs() + 0.1;
      check_case(problem, str(term.name, tail ? ", tail" : ", sampled", ", soft cap and row weights"));
    }
  }
}

TEST(LinearLoss, LabelsAlone) {
  LossCase problem;
  problem.weights.ce = 1;
  check_case(problem, "ce");
  problem.softcap = 2;
  check_case(problem, "ce, soft cap");
  problem.targets = live_teacher();
  EXPECT_EQ(problem.fused().terms[0].item<double>(), 0) << "a teacher whose terms weigh nothing is not computed";
}

TEST(LinearLoss, ValuesByHand) {
  // Two ids, student (1/4, 3/4), teacher (1/2, 1/2): every term has a value that can be written down.
  LossCase problem;
  problem.vocab = 2;
  problem.hidden = at::tensor(std::vector<double>{1.0}).reshape({1, 1});
  problem.weight = at::tensor(std::vector<double>{std::log(0.25), std::log(0.75)}).reshape({2, 1});
  problem.labels = at::zeros({1}, at::kLong);
  problem.targets.kind = LogitTargets::Kind::dense;
  problem.targets.log_probs = at::full({1, 2}, std::log(0.5), at::kDouble);
  const auto value = [&](const std::function<void(LossWeights&)>& set) {
    problem.weights = LossWeights{};
    set(problem.weights);
    return problem.fused(false).loss.item<double>();
  };
  const double p[2] = {0.25, 0.75}, t[2] = {0.5, 0.5};
  double fkl = 0, rkl = 0, jsd = 0, skl = 0, srkl = 0, tvd = 0;
  const double beta = 0.4, lambda = 0.1;
  for (int i = 0; i < 2; ++i) {
    fkl += t[i] * std::log(t[i] / p[i]);
    rkl += p[i] * std::log(p[i] / t[i]);
    const double m = beta * t[i] + (1 - beta) * p[i];
    jsd += (beta * t[i] * std::log(t[i] / m) + (1 - beta) * p[i] * std::log(p[i] / m)) / (beta * (1 - beta));
    skl += t[i] * std::log(t[i] / (lambda * t[i] + (1 - lambda) * p[i]));
    srkl += p[i] * std::log(p[i] / (lambda * p[i] + (1 - lambda) * t[i]));
    tvd += 0.5 * std::abs(p[i] - t[i]);
  }
  EXPECT_NEAR(value([](LossWeights& w) { w.ce = 1; }), -std::log(0.25), 1e-12);
  EXPECT_NEAR(value([](LossWeights& w) { w.kl = 1; }), fkl, 1e-12);
  EXPECT_NEAR(value([](LossWeights& w) { w.rkl = 1; }), rkl, 1e-12);
  EXPECT_NEAR(value([](LossWeights& w) { w.jsd = 1, w.beta = 0.4; }), jsd, 1e-12);
  EXPECT_NEAR(value([](LossWeights& w) { w.skl = 1; }), skl, 1e-12);
  EXPECT_NEAR(value([](LossWeights& w) { w.srkl = 1; }), srkl, 1e-12);
  EXPECT_NEAR(value([](LossWeights& w) { w.tvd = 1; }), tvd, 1e-12);
  // At T the student's softened distribution is (1, sqrt 3) / (1 + sqrt 3) for T = 2, and the term is times T^2.
  const double q = 1 / (1 + std::sqrt(3.0));
  EXPECT_NEAR(value([](LossWeights& w) { w.kl = 1, w.temperature = 2; }), 4 * (0.5 * std::log(0.5 / q) + 0.5 * std::log(0.5 / (1 - q))), 1e-12);
}

TEST(LinearLoss, JsdKeepsItsGradientAtTheEnds) {
  LossCase problem;
  problem.targets = live_teacher();
  const auto gradient = [&](double beta) {
    problem.weights = LossWeights{};
    problem.weights.jsd = 1;
    problem.weights.beta = beta;
    return problem.fused().grad_weight;
  };
  EXPECT_LT(largest_gap(gradient(1e-8), gradient(0)), 1e-4);
  EXPECT_LT(largest_gap(gradient(1 - 1e-8), gradient(1)), 1e-4);
  EXPECT_GT(gradient(1).abs().max().item<double>(), 0.1);
}

/// A problem of many chunks and of lengths that are no multiple of a vector, in float32.
LossCase large_case(int64_t rows, int64_t vocab, double missing) {
  LossCase problem;
  problem.hidden = noise({rows, 16}, 21).to(at::kFloat);
  problem.weight = noise({vocab, 16}, 22, 0.5).to(at::kFloat);
  problem.vocab = vocab;
  Rng rng(9, 1);
  problem.labels = at::empty({rows}, at::kLong);
  for (int64_t i = 0; i < rows; ++i) problem.labels.data_ptr<int64_t>()[i] = rng.uniform() < missing ? -100 : rng.below(vocab);
  problem.targets.kind = LogitTargets::Kind::live;
  problem.targets.hidden = noise({rows, 24}, 23).to(at::kFloat);
  problem.targets.weight = noise({vocab, 24}, 24, 0.4).to(at::kFloat);
  return problem;
}

TEST(LinearLoss, ManyChunksInFloat32) {
  for (const double missing : {0.0, 0.7}) {
    LossCase problem = large_case(700, 7001, missing);
    problem.weights.kl = 0.9;
    problem.weights.ce = 0.1;
    const LinearLossResult fused = problem.fused(), plain = problem.plain();
    EXPECT_NEAR(fused.loss.item<double>() / plain.loss.item<double>(), 1, 2e-6);
    EXPECT_LT(largest_gap(fused.grad_hidden, plain.grad_hidden), 2e-5);
    EXPECT_LT(largest_gap(fused.grad_weight, plain.grad_weight), 2e-5);
    EXPECT_GT(plain.grad_weight.abs().max().item<double>(), 0.1);
  }
}

TEST(LinearLoss, EqualBytesForAnyNumberOfThreads) {
  LossCase problem = large_case(300, 3001, 0.3);
  problem.weights.kl = 1;
  problem.weights.jsd = 0.5;
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const LinearLossResult one = problem.fused();
  at::set_num_threads(2);
  const LinearLossResult two = problem.fused(), again = problem.fused();
  at::set_num_threads(before);
  EXPECT_TRUE(two.grad_weight.equal(again.grad_weight));
  EXPECT_TRUE(two.loss.equal(again.loss));
  EXPECT_TRUE(one.loss.equal(two.loss));
  EXPECT_TRUE(one.grad_weight.equal(two.grad_weight));
  EXPECT_TRUE(one.grad_hidden.equal(two.grad_hidden));
}

TEST(LinearLoss, Bfloat16InputsAreSummedInFloat32) {
  LossCase problem = large_case(200, 501, 0.2);
  problem.weights.kl = 1;
  problem.hidden = problem.hidden.to(at::kBFloat16);
  problem.weight = problem.weight.to(at::kBFloat16);
  const LinearLossResult fused = problem.fused(), plain = problem.plain();
  EXPECT_EQ(fused.grad_hidden.scalar_type(), at::kBFloat16);
  EXPECT_EQ(fused.grad_weight.scalar_type(), at::kFloat);
  EXPECT_LT(largest_gap(fused.grad_weight, plain.grad_weight), 2e-5) << "products of bfloat16 are exact in float32: only sums round";
  EXPECT_NEAR(fused.loss.item<double>() / plain.loss.item<double>(), 1, 2e-6);
}

TEST(LinearLoss, ExtremeLogitsStayFinite) {
  LossCase problem = large_case(40, 333, 0);
  problem.weight *= 100;
  problem.targets.weight = problem.targets.weight * 100;
  for (const NamedTerm& term : all_terms()) {
    SCOPED_TRACE(term.name);
    problem.weights = LossWeights{};
    term.set(problem.weights);
    const LinearLossResult fused = problem.fused(), plain = problem.plain();
    EXPECT_TRUE(std::isfinite(fused.loss.item<double>()));
    EXPECT_TRUE(fused.grad_weight.isfinite().all().item<bool>());
    EXPECT_NEAR(fused.loss.item<double>() / plain.loss.item<double>(), 1, 1e-4);
  }
  problem.targets = LogitTargets{};
  problem.targets.kind = LogitTargets::Kind::dense;
  problem.targets.log_probs = at::full({40, 333}, -INFINITY);
  problem.targets.log_probs.select(1, 7).zero_();
  problem.weights = LossWeights{};
  problem.weights.kl = 1;
  problem.weights.rkl = 1;
  EXPECT_TRUE(std::isfinite(problem.fused().loss.item<double>())) << "a teacher certain of one id";
}

TEST(LinearLoss, NanIsSeen) {
  LossCase problem = large_case(40, 333, 0);
  problem.hidden[3][2] = NAN;
  problem.weights.kl = 1;
  EXPECT_TRUE(std::isnan(problem.fused().loss.item<double>()));
}

TEST(LinearLoss, NoValidRowGivesZeros) {
  LossCase problem = large_case(20, 50, 1.1);
  problem.weights.ce = 1;
  const LinearLossResult result = problem.fused();
  EXPECT_EQ(result.loss.item<double>(), 0);
  EXPECT_EQ(result.grad_weight.abs().max().item<double>(), 0);
  EXPECT_EQ(result.grad_hidden.abs().max().item<double>(), 0);
}

void expect_refused(const LossCase& problem, const std::string& part) {
  try {
    problem.fused();
    FAIL() << "accepted: " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(LinearLoss, RefusesWhatDoesNotFit) {
  LossCase good;
  good.targets = sparse_teacher(true);
  good.weights.kl = 1;
  good.fused();
  LossCase bad = good;
  bad.weights.rkl = 1;
  expect_refused(bad, "whole distribution");
  bad = good;
  bad.labels = good.labels.clone();
  bad.labels[0] = 10;
  expect_refused(bad, "[0, 10)");
  bad = good;
  bad.targets.ids = good.targets.ids.clone();
  bad.targets.ids[0][1] = 10;
  expect_refused(bad, "teacher's ids");
  bad = good;
  bad.targets.ids = good.targets.ids.clone();
  bad.targets.ids[0][1] = 3;
  expect_refused(bad, "once");
  bad = good;
  bad.targets = LogitTargets{};
  expect_refused(bad, "needs a teacher");
  bad = good;
  bad.vocab = 12;
  expect_refused(bad, "common vocabulary");
  bad = good;
  bad.weight = noise({11, 5}, 2);
  expect_refused(bad, "output matrix");
  bad = good;
  bad.targets = live_teacher();
  bad.targets.weight = noise({9, 5}, 2);
  expect_refused(bad, "teacher's output matrix");
}

}  // namespace
}  // namespace attar
