#include "model/layer_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <omp.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/matmul.h"
#include "kernels/matvec.h"
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

/// (.., K) as (rows, K) whose values lie side by side.
at::Tensor as_rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}).contiguous(); }

at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  const at::Tensor out = at::empty(shape, x.options());
  const at::Tensor from = as_rows(x);
  if (const int64_t count = from.size(0); count && count <= kFewRows && weight.stride(1) == 1 && weight.stride(0) >= weight.size(1)) {
    constexpr int64_t kParallel = 1 << 16;
    const int threads = weight.numel() < kParallel || omp_in_parallel() ? 1 : at::get_num_threads();
    few_rows_product(count, weight.size(0), weight.size(1), from.const_data_ptr<float>(), weight.const_data_ptr<float>(), weight.stride(0),
                     out.data_ptr<float>(), threads);
    return out;
  }
  at::Tensor rows = out.view({-1, weight.size(0)});
  matmul_into(rows, from, weight.t());
  return out;
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight) {
    context->save_for_backward({x, weight});
    return linear_rows(x, weight);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor g = as_rows(grads[0]);
    variable_list out(2);
    if (context->needs_input_grad(0)) {
      out[0] = at::empty(x.sizes(), x.options());
      at::Tensor rows = out[0].view({-1, weight.size(1)});
      matmul_into(rows, g, weight);
    }
    if (context->needs_input_grad(1)) {
      out[1] = at::empty(weight.sizes(), weight.options());
      matmul_into(out[1], g.t(), as_rows(x));
    }
    return out;
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

at::Tensor linear_op(const at::Tensor& x, const at::Tensor& weight) {
  const bool fits = x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && x.dim() >= 1 && weight.dim() == 2 &&
                    x.size(-1) == weight.size(1);
  if (!fits) return at::linear(x, weight);
  return tracked(x, weight) ? LinearFunction::apply(x, weight) : linear_rows(x, weight);
}

at::Tensor gated_op(const at::Tensor& gate, const at::Tensor& up, GateActivation activation) {
  return tracked(gate, up) ? GatedFunction::apply(gate, up, static_cast<int64_t>(activation)) : gated(gate, up, activation);
}

}  // namespace attar
