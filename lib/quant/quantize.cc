#include "quant/quantize.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <unordered_set>

#include "base/check.h"
#include "kernels/ggml_blocks.h"

namespace attar {

std::vector<std::string> quantized_names(const ModelSpec& spec, GgmlType type, bool embeddings) {
  std::vector<std::string> names;
  const int64_t block = ggml_type_info(type).block;
  for (const ParameterInfo& p : parameters_of(spec)) {
    if (p.shape.size() != 2 || p.shape[1] % block != 0) continue;
    const bool embedding = p.name == "model.embed_tokens.weight" || p.name == "lm_head.weight";
    if (embedding ? embeddings : is_linear_weight(p.name)) names.push_back(p.name);
  }
  check(!names.empty(), "quantize", str("a weight whose rows are multiples of ", block), "none in this model");
  return names;
}

QuantizedTensor quantize_tensor(const at::Tensor& weight, GgmlType type, const at::Tensor& importance) {
  const at::Tensor values = weight.detach().to(at::kCPU).to(at::kFloat).contiguous();
  const int64_t rows = values.size(0), columns = values.size(1);
  QuantizedTensor out{type, {rows, columns}, at::empty({rows, ggml_row_bytes(type, columns)}, at::kByte)};
  quantize_rows(type, values.const_data_ptr<float>(), out.blocks.mutable_data_ptr<uint8_t>(), rows, columns,
                importance.defined() ? importance.const_data_ptr<float>() : nullptr);
  return out;
}

at::Tensor dequantize_tensor(const QuantizedTensor& tensor) {
  at::Tensor values = at::empty(tensor.shape, at::kFloat);
  dequantize_rows(tensor.type, tensor.blocks.const_data_ptr<uint8_t>(), values.mutable_data_ptr<float>(), tensor.shape[0], tensor.shape[1]);
  return values;
}

void quantize_checkpoint(Checkpoint& model, GgmlType type, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    at::Tensor& weight = model.weights.at(name);
    try {
      QuantizedTensor codes = quantize_tensor(weight, type);
      weight = dequantize_tensor(codes);
      model.codes[name] = std::move(codes);
    } catch (const Error& error) {
      fail("quantizing '" + name + "': " + error.faults()[0].what, error.faults()[0].expected, error.faults()[0].received, error.faults()[0].hint);
    }
  }
}

namespace {

/// Straight through: the gradient of the rounded weight is the gradient of the weight.
struct FakeQuantize : torch::autograd::Function<FakeQuantize> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& weight, int64_t type) {
    return dequantize_tensor(quantize_tensor(weight, static_cast<GgmlType>(type))).to(weight.device());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0], at::Tensor()};
  }
};

}  // namespace

Decoder::WeightHook fake_quantization(GgmlType type, const std::vector<std::string>& names) {
  return [type, chosen = std::unordered_set<std::string>(names.begin(), names.end())](const std::string& name, const at::Tensor& weight) {
    return chosen.count(name) ? FakeQuantize::apply(weight, static_cast<int64_t>(type)) : weight;
  };
}

}  // namespace attar
