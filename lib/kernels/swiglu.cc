#include "kernels/swiglu.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda_calls.h"
#include "kernels/decoder_rows.h"

namespace attar {
namespace {

constexpr int64_t kGatePiece = 4096;

bool gate_is_fused(const at::Tensor& gate, const at::Tensor& up, GateActivation activation) {
  return activation == GateActivation::silu && gate.is_cpu() && gate.scalar_type() == at::kFloat && up.scalar_type() == at::kFloat &&
         gate.is_contiguous() && up.is_contiguous();
}

void check_gate(const at::Tensor& gate, const at::Tensor& up) {
  if (gate.sizes() != up.sizes()) fail("gated", attar::str("gate and up of one shape, ", gate.sizes()), attar::str(up.sizes()));
}

at::Tensor activate(const at::Tensor& gate, GateActivation activation) {
  if (activation == GateActivation::silu) return at::silu(gate);
  return at::gelu(gate, activation == GateActivation::gelu_tanh ? "tanh" : "none");
}

}  // namespace

GateActivation gate_activation_named(const std::string& name) {
  if (name == "silu") return GateActivation::silu;
  if (name == "gelu_tanh") return GateActivation::gelu_tanh;
  if (name == "gelu") return GateActivation::gelu;
  fail("activation", "silu, gelu_tanh or gelu", name, nearest_hint(name, {"silu", "gelu_tanh", "gelu"}));
}

at::Tensor gated_plain(const at::Tensor& gate, const at::Tensor& up, GateActivation activation) {
  check_gate(gate, up);
  return activate(gate, activation) * up;
}

at::Tensor gated(const at::Tensor& gate, const at::Tensor& up, GateActivation activation) {
  if (gate.is_cuda() && activation == GateActivation::silu && gate.sizes() == up.sizes() && cuda_takes({gate, up}))
    return swiglu_by(cuda_calls(), gate, up);
  if (!gate_is_fused(gate, up, activation)) return gated_plain(gate, up, activation);
  check_gate(gate, up);
  at::Tensor result = at::empty_like(gate);
  const int64_t count = gate.numel();
  const float* g = gate.const_data_ptr<float>();
  const float* u = up.const_data_ptr<float>();
  float* y = result.data_ptr<float>();
#pragma omp parallel for schedule(static) if (count > kGatePiece)
  for (int64_t i = 0; i < count; i += kGatePiece) swiglu_row(g + i, u + i, y + i, std::min(kGatePiece, count - i));
  return result;
}

std::pair<at::Tensor, at::Tensor> gated_backward(const at::Tensor& grad, const at::Tensor& gate, const at::Tensor& up, GateActivation activation) {
  if (gate.is_cuda() && activation == GateActivation::silu && grad.scalar_type() == gate.scalar_type() && cuda_takes({gate, up}))
    return swiglu_backward_by(cuda_calls(), grad.contiguous(), gate, up);
  if (!gate_is_fused(gate, up, activation) || grad.scalar_type() != at::kFloat) {
    const at::Tensor towards = grad * up;
    const char* form = activation == GateActivation::gelu_tanh ? "tanh" : "none";
    const at::Tensor dgate = activation == GateActivation::silu ? at::silu_backward(towards, gate) : at::gelu_backward(towards, gate, form);
    return {dgate, grad * activate(gate, activation)};
  }
  const at::Tensor dy = grad.contiguous();
  at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
  const int64_t count = gate.numel();
  const float* d = dy.const_data_ptr<float>();
  const float* g = gate.const_data_ptr<float>();
  const float* u = up.const_data_ptr<float>();
  float* to_gate = dgate.data_ptr<float>();
  float* to_up = dup.data_ptr<float>();
#pragma omp parallel for schedule(static) if (count > kGatePiece)
  for (int64_t i = 0; i < count; i += kGatePiece)
    swiglu_backward_row(d + i, g + i, u + i, to_gate + i, to_up + i, std::min(kGatePiece, count - i));
  return {dgate, dup};
}

}  // namespace attar
