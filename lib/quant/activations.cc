#include "quant/activations.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/check.h"
#include "quant/quantize.h"

namespace attar {
namespace {

/// Rows of blocks there and back.
at::Tensor through_blocks(const at::Tensor& x, GgmlType type) {
  return dequantize_tensor(quantize_tensor(x.reshape({-1, x.size(-1)}), type)).view(x.sizes()).to(x.device(), x.scalar_type());
}

/// Unsigned bytes over the range that holds the row and 0; the zero point is a whole number, ties go to even.
at::Tensor through_bytes(const at::Tensor& x) {
  const at::Tensor values = x.to(at::kFloat);
  const at::Tensor least = std::get<0>(values.min(-1, true)).clamp_max(0), most = std::get<0>(values.max(-1, true)).clamp_min(0);
  const at::Tensor scale = (most - least) / 255, safe = at::where(scale == 0, at::ones_like(scale), scale);
  const at::Tensor zero = (-least / safe).round().clamp(0, 255);
  return (((values / safe).round() + zero).clamp(0, 255) - zero).mul(scale).to(x.scalar_type());
}

struct FakeActivation : torch::autograd::Function<FakeActivation> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x, int64_t grid) {
    return round_activations(x, static_cast<ActivationGrid>(grid));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0], at::Tensor()};
  }
};

}  // namespace

at::Tensor round_activations(const at::Tensor& x, ActivationGrid grid) {
  const at::NoGradGuard no_grad;
  if (grid == ActivationGrid::int8) return through_bytes(x);
  return x.size(-1) % ggml_type_info(GgmlType::q8_0).block == 0 ? through_blocks(x, GgmlType::q8_0) : x.clone();
}

Decoder::InputHook fake_activations(std::set<std::string> weights, ActivationGrid grid) {
  return [weights = std::move(weights), grid](const std::string& name, const at::Tensor& x) {
    return weights.count(name) ? FakeActivation::apply(x, static_cast<int64_t>(grid)) : x;
  };
}

std::function<at::Tensor(const at::Tensor&)> fake_kv_cache(const std::string& type, int64_t head_size) {
  check(type == "f16" || type == "q8_0" || type == "q4_0", "kv_cache", "f32 (not rounded), f16, q8_0 or q4_0", type);
  const GgmlType chosen = ggml_type_named(type);
  const int64_t block = ggml_type_info(chosen).block;
  check(head_size % block == 0, "kv_cache " + type, str("heads of a multiple of ", block, " values"), std::to_string(head_size), "take f16");
  return [chosen](const at::Tensor& x) { return chosen == GgmlType::f16 ? x.to(at::kHalf).to(x.scalar_type()) : through_blocks(x, chosen); };
}

}  // namespace attar
