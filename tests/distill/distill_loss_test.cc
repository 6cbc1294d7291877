#include "distill/distill_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/rng.h"

namespace attar {
namespace {

at::Tensor drawn(std::vector<int64_t> shape, uint64_t stream) {
  at::Tensor out = at::empty(shape, at::kDouble);
  Rng rng(3, stream);
  for (int64_t i = 0; i < out.numel(); ++i) out.data_ptr<double>()[i] = rng.normal();
  return out;
}

struct DistillCase {
  at::Tensor hidden = drawn({6, 4}, 1).requires_grad_(true), weight = drawn({9, 4}, 2).requires_grad_(true);
  at::Tensor labels = at::tensor(std::vector<int64_t>{1, 2, -100, 8, 0, 3}, at::kLong);
  LogitTargets targets;
  LossWeights weights;
  DistillCase() {
    targets.kind = LogitTargets::Kind::live;
    targets.hidden = drawn({6, 5}, 3);
    targets.weight = drawn({9, 5}, 4);
    weights.kl = 0.8;
    weights.ce = 0.2;
  }
  DistillLoss loss() const { return distill_loss(hidden, weight, targets, labels, {}, weights, 0, 9); }
};

TEST(DistillLoss, GradientsReachWhatCameBefore) {
  DistillCase problem;
  // The plain formula through LibTorch's own autograd.
  const at::Tensor rows = problem.labels.ne(-100).nonzero().squeeze(1);
  const at::Tensor log_p = problem.hidden.matmul(problem.weight.t()).log_softmax(-1).index_select(0, rows);
  const at::Tensor log_t = problem.targets.hidden.matmul(problem.targets.weight.t()).log_softmax(-1).index_select(0, rows);
  const at::Tensor ce = -log_p.gather(1, problem.labels.index_select(0, rows).unsqueeze(1)).sum(), kl = (log_t.exp() * (log_t - log_p)).sum();
  (3 * (0.8 * kl + 0.2 * ce)).backward();
  const at::Tensor hidden = problem.hidden.grad().clone(), weight = problem.weight.grad().clone();
  problem.hidden.mutable_grad().reset();
  problem.weight.mutable_grad().reset();

  const DistillLoss loss = problem.loss();
  (3 * loss.sum).backward();
  EXPECT_LT((problem.hidden.grad() - hidden).abs().max().item<double>(), 1e-12);
  EXPECT_LT((problem.weight.grad() - weight).abs().max().item<double>(), 1e-12);
  EXPECT_NEAR(loss.kl(), kl.item<double>(), 1e-12);
  EXPECT_NEAR(loss.ce(), ce.item<double>(), 1e-12);
  EXPECT_NEAR(loss.sum.item<double>(), 0.8 * loss.kl() + 0.2 * loss.ce(), 1e-12);
}

TEST(DistillLoss, TiedEmbeddingsAddUp) {
  DistillCase problem;
  const at::Tensor ids = at::tensor(std::vector<int64_t>{0, 1, 2, 3, 4, 5}, at::kLong);
  const auto gradient = [&](bool tied) {
    const at::Tensor table = problem.weight.detach().clone().requires_grad_(true), copy = table.detach().clone().requires_grad_(true);
    const at::Tensor h = table.index_select(0, ids) * 2;
    const DistillLoss loss = distill_loss(h, tied ? table : copy, problem.targets, problem.labels, {}, problem.weights, 0, 9);
    loss.sum.backward();
    return tied ? table.grad() : table.grad() + copy.grad();
  };
  EXPECT_LT((gradient(true) - gradient(false)).abs().max().item<double>(), 1e-12);
}

TEST(DistillLoss, NothingIsFormedWithoutGradients) {
  DistillCase problem;
  const at::NoGradGuard no_grad;
  const DistillLoss loss = problem.loss();
  EXPECT_FALSE(loss.sum.requires_grad());
  EXPECT_GT(loss.kl(), 0);
}

TEST(DistillLoss, SecondBackwardIsRefused) {
  DistillCase problem;
  const DistillLoss loss = problem.loss();
  loss.sum.backward({}, true);
  EXPECT_ANY_THROW(loss.sum.backward());
}

TEST(DistillLoss, Bfloat16ParametersGetGradientsOfTheirType) {
  DistillCase problem;
  problem.hidden = problem.hidden.detach().to(at::kBFloat16).requires_grad_(true);
  problem.weight = problem.weight.detach().to(at::kBFloat16).requires_grad_(true);
  problem.loss().sum.backward();
  EXPECT_EQ(problem.weight.grad().scalar_type(), at::kBFloat16);
  EXPECT_EQ(problem.hidden.grad().scalar_type(), at::kBFloat16);
}

TEST(HiddenStateLoss, ValueAndGradient) {
  const at::Tensor labels = at::tensor(std::vector<int64_t>{1, -100, 3}, at::kLong);
  const at::Tensor teacher = drawn({3, 5}, 11);
  for (const std::string kind : {"mse", "cosine"}) {
    at::Tensor student = drawn({3, 4}, 12).requires_grad_(true), projection = drawn({5, 4}, 13).requires_grad_(true);
    const at::Tensor loss = hidden_state_loss(student, teacher, projection, labels, kind);
    double expected = 0;
    for (const int64_t r : {0, 2}) {
      const at::Tensor x = projection.matmul(student[r]), y = teacher[r];
      expected += kind == "mse" ? (x - y).square().mean().item<double>() : 1 - (x.dot(y) / (x.norm() * y.norm())).item<double>();
    }
    EXPECT_NEAR(loss.item<double>(), expected, 1e-12) << kind;
    loss.backward();
    const double step = 1e-6;
    for (at::Tensor* t : {&student, &projection}) {
      const at::Tensor gradient = t->grad();
      double* x = t->data_ptr<double>();
      const at::NoGradGuard no_grad;
      for (int64_t i = 0; i < t->numel(); ++i) {
        const double kept = x[i];
        x[i] = kept + step;
        const double high = hidden_state_loss(student, teacher, projection, labels, kind).item<double>();
        x[i] = kept - step;
        const double low = hidden_state_loss(student, teacher, projection, labels, kind).item<double>();
        x[i] = kept;
        EXPECT_NEAR(gradient.flatten()[i].item<double>(), (high - low) / (2 * step), 1e-7) << kind;
      }
    }
  }
}

TEST(HiddenStateLoss, RefusesWidthsWithoutProjection) {
  EXPECT_THROW(hidden_state_loss(drawn({3, 4}, 1), drawn({3, 5}, 2), {}, at::zeros({3}, at::kLong), "mse"), Error);
  EXPECT_THROW(hidden_state_loss(drawn({3, 5}, 1), drawn({3, 5}, 2), {}, at::zeros({3}, at::kLong), "rmse"), Error);
}

}  // namespace
}  // namespace attar
