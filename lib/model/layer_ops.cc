#include "model/layer_ops.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/rmsnorm.h"
#include "kernels/rope.h"

namespace attar {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct NormFunction : torch::autograd::Function<NormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
    const at::Tensor dense = x.contiguous();
    RmsNormResult result = rms_norm(dense, weight, eps, offset);
    context->save_for_backward({dense, weight, result.rstd});
    context->saved_data["offset"] = offset;
    return result.y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    auto [dx, dw] = rms_norm_backward(grads[0], saved[0], saved[1], saved[2], context->saved_data["offset"].toDouble());
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};

struct RotaryFunction : torch::autograd::Function<RotaryFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    // A tensor of its own over the same memory: to autograd the input was not touched.
    at::Tensor turned = x.variable_data();
    rotate_(turned, cos, sin, false);
    context->save_for_backward({cos, sin});
    return turned;
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    // Attention hands out gradients laid out as it likes; a copy is turned in place, for the graph may hold the original.
    at::Tensor turned = grads[0].clone(at::MemoryFormat::Contiguous);
    rotate_(turned, saved[0], saved[1], true);
    return {turned, at::Tensor(), at::Tensor()};
  }
};

struct GatedFunction : torch::autograd::Function<GatedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up, int64_t activation) {
    context->save_for_backward({gate, up});
    context->saved_data["activation"] = activation;
    return gated(gate, up, static_cast<GateActivation>(activation));
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const auto activation = static_cast<GateActivation>(context->saved_data["activation"].toInt());
    auto [dgate, dup] = gated_backward(grads[0], saved[0], saved[1], activation);
    return {dgate, dup, at::Tensor()};
  }
};

/// Without a gradient to come, autograd's own bookkeeping is saved.
bool tracked(const at::Tensor& a, const at::Tensor& b) { return at::GradMode::is_enabled() && (a.requires_grad() || b.requires_grad()); }

}  // namespace

at::Tensor norm_op(const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  return tracked(x, weight) ? NormFunction::apply(x, weight, eps, offset) : rms_norm(x.contiguous(), weight, eps, offset).y;
}

at::Tensor rotary_op(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  if (tracked(x, x)) return RotaryFunction::apply(x, cos, sin);
  at::Tensor turned = x;
  rotate_(turned, cos, sin, false);
  return turned;
}

at::Tensor gated_op(const at::Tensor& gate, const at::Tensor& up, GateActivation activation) {
  return tracked(gate, up) ? GatedFunction::apply(gate, up, static_cast<int64_t>(activation)) : gated(gate, up, activation);
}

}  // namespace attar
