#include "distill/distill_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/check.h"

namespace attar {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// Gradients are formed in the forward pass; backward only scales them. They are given away, so that backward works once.
struct LinearLossFunction : torch::autograd::Function<LinearLossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& weight, const LinearLossResult& result) {
    context->saved_data["hidden"] = result.grad_hidden;
    context->saved_data["weight"] = result.grad_weight;
    context->saved_data["left"] = true;
    return result.loss.detach();
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    check(context->saved_data["left"].toBool(), "distill_loss: backward", "once", "a second time", "its gradients are given away the first time");
    at::Tensor hidden = context->saved_data["hidden"].toTensor(), weight = context->saved_data["weight"].toTensor();
    for (const char* name : {"hidden", "weight"}) context->saved_data[name] = at::Tensor();
    context->saved_data["left"] = false;
    const at::Tensor& scale = upstream[0];
    hidden.mul_(scale.to(hidden.scalar_type()));
    weight.mul_(scale.to(weight.scalar_type()));
    return {hidden, weight, at::Tensor()};
  }
};

}  // namespace

double DistillLoss::kl() const { return terms[0].item<double>(); }
double DistillLoss::ce() const { return terms[1].item<double>(); }

DistillLoss distill_loss(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                         const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab,
                         const at::Tensor& rows) {
  const bool wanted = c10::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad());
  const LinearLossResult result = linear_loss(hidden, weight, targets, labels, row_weights, weights, softcap, vocab, wanted, rows);
  DistillLoss loss;
  loss.terms = result.terms;
  loss.sum = wanted ? LinearLossFunction::apply(hidden, weight, result) : result.loss;
  return loss;
}

}  // namespace attar
