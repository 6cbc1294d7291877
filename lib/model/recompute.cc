#include "model/recompute.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

namespace attar {
namespace {

/// A function as a value that autograd's context can keep.
struct KeptBody : torch::CustomClassHolder {
  std::function<at::Tensor(const at::Tensor&)> run;
};

struct RecomputeFunction : torch::autograd::Function<RecomputeFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const c10::intrusive_ptr<KeptBody>& body) {
    context->save_for_backward({x});
    context->saved_data["body"] = c10::IValue::make_capsule(body);
    const at::NoGradGuard no_grad;
    return body->run(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& upstream) {
    const auto body = c10::static_intrusive_pointer_cast<KeptBody>(context->saved_data["body"].toCapsule());
    const at::AutoGradMode with_grad(true);
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    body->run(x).backward(upstream[0]);
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recomputed(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> body) {
  if (!at::GradMode::is_enabled()) return body(x);
  auto kept = c10::make_intrusive<KeptBody>();
  kept->run = std::move(body);
  // Parameters inside the body want gradients even where the input itself has none (a frozen embedding).
  return RecomputeFunction::apply(x.requires_grad() ? x : x.detach().requires_grad_(true), kept);
}

}  // namespace attar
