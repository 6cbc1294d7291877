#include "quant/quantize.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/check.h"
#include "kernels/cuda_grids.h"
#include "blocks/ggml_blocks.h"
#include "kernels/scale_search.h"
#include "quant/row_int8.h"

namespace attar {
namespace {

const std::vector<float>* find_importance(const ImportanceMap& importance, const std::string& name) {
  const auto found = importance.find(name);
  return found == importance.end() ? nullptr : &found->second;
}

/// Straight through: the gradient of the rounded weight is the gradient of the weight.
struct FakeQuantize : torch::autograd::Function<FakeQuantize> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& weight, int64_t type, const std::vector<float>* importance,
                            const at::Tensor* importance_there) {
    const auto grid = static_cast<GgmlType>(type);
    if (weight.is_cuda() && cuda_rounds_to(grid))
      return fake_quantize_by(cuda_calls(), grid, weight.to(at::kFloat).contiguous(), *importance_there);
    return dequantize_tensor(quantize_tensor(weight, grid, importance)).to(weight.device());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0], at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

/// Importance where the weights are, brought there once. On the CPU the numbers themselves are read.
class ImportanceThere {
 public:
  at::Tensor of(const std::string& name, const std::vector<float>* importance, const at::Tensor& weight) {
    if (!importance || !weight.is_cuda()) return {};
    check(static_cast<int64_t>(importance->size()) == weight.size(-1), "importance of '" + name + "'", str(weight.size(-1), " values"),
          std::to_string(importance->size()));
    at::Tensor& there = kept_[name];
    if (!there.defined()) there = at::tensor(*importance, at::kFloat).to(weight.device());
    return there;
  }

 private:
  std::map<std::string, at::Tensor> kept_;
};

}  // namespace

QuantizedTensor quantize_tensor(const at::Tensor& weight, GgmlType type, const std::vector<float>* importance, Rounding rounding) {
  const at::Tensor values = weight.detach().to(at::kCPU).to(at::kFloat).contiguous();
  const int64_t rows = values.size(0), columns = values.size(1);
  if (importance)
    check(static_cast<int64_t>(importance->size()) == columns, "importance", str(columns, " values"), std::to_string(importance->size()));
  if (type == GgmlType::i8) return round_to_int8(values, importance, rounding);
  QuantizedTensor out{type, {rows, columns}, at::empty({rows, ggml_row_bytes(type, columns)}, at::kByte)};
  const auto encode = rounding == Rounding::search ? search_rows : quantize_rows;
  encode(type, values.const_data_ptr<float>(), out.blocks.mutable_data_ptr<uint8_t>(), rows, columns, importance ? importance->data() : nullptr);
  return out;
}

at::Tensor dequantize_tensor(const QuantizedTensor& tensor) {
  if (tensor.type == GgmlType::i8) return int8_values(tensor);
  at::Tensor values = at::empty(tensor.shape, at::kFloat);
  dequantize_rows(tensor.type, tensor.blocks.const_data_ptr<uint8_t>(), values.mutable_data_ptr<float>(), tensor.shape[0], tensor.shape[1]);
  return values;
}

void quantize_weight(Checkpoint& model, const std::string& name, GgmlType type, const ImportanceMap& importance, Rounding rounding) {
  at::Tensor& weight = model.weights.at(name);
  try {
    QuantizedTensor codes = quantize_tensor(weight, type, find_importance(importance, name), rounding);
    weight = dequantize_tensor(codes);
    model.codes[name] = std::move(codes);
  } catch (const Error& error) {
    const Fault& fault = error.faults()[0];
    fail("quantizing '" + name + "': " + fault.what, fault.expected, fault.received, fault.hint);
  }
}

void quantize_checkpoint(Checkpoint& model, const std::map<std::string, GgmlType>& types, const ImportanceMap& importance, Rounding rounding) {
  for (const auto& [name, type] : types) quantize_weight(model, name, type, importance, rounding);
}

Decoder::WeightHook fake_quantization(const std::map<std::string, GgmlType>& types, const ImportanceMap& importance) {
  return [types, importance, there = std::make_shared<ImportanceThere>()](const std::string& name, const at::Tensor& weight) {
    const auto type = types.find(name);
    if (type == types.end()) return weight;
    const std::vector<float>* shares = find_importance(importance, name);
    const at::Tensor shares_there = there->of(name, shares, weight);
    return FakeQuantize::apply(weight, static_cast<int64_t>(type->second), shares, &shares_there);
  };
}

}  // namespace attar
