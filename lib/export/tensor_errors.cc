#include "export/tensor_errors.h"

#include <ATen/ATen.h>

#include <cmath>

#include "export/gguf_rows.h"
#include "formats/gguf.h"
#include "kernels/ggml_blocks.h"

namespace attar {

void RelativeError::add(const float* wanted, const float* got, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double value = wanted[i], difference = got[i] - value;
    difference_ += difference * difference;
    norm_ += value * value;
  }
}

double RelativeError::value() const { return difference_ == 0 ? 0 : std::sqrt(difference_ / norm_); }

void add_tensor_errors(const fs::path& gguf, const Checkpoint& model, Json& tensors) {
  const GgufFile file(gguf);
  std::map<std::string, double> errors;
  std::vector<float> values;
  for (const GgufMapping& mapping : gguf_mapping(model.spec)) {
    const GgufRows rows(model, mapping);
    const GgufTensor* tensor = file.find(mapping.gguf);
    if (!tensor || tensor->shape != rows.shape()) continue;
    const int64_t width = ggml_row_bytes(tensor->type, rows.columns()), step = rows.rows_at_a_time();
    RelativeError error;
    for (int64_t begin = 0; begin < rows.rows(); begin += step) {
      const int64_t count = std::min(step, rows.rows() - begin);
      const at::Tensor wanted = rows.bytes(GgmlType::f32, begin, count, nullptr);
      values.resize(static_cast<size_t>(count * rows.columns()));
      dequantize_rows(tensor->type, file.bytes(*tensor).data() + begin * width, values.data(), count, rows.columns());
      error.add(static_cast<const float*>(wanted.const_data_ptr()), values.data(), count * rows.columns());
    }
    file.release(*tensor);
    errors[mapping.gguf] = error.value();
  }
  for (Json& tensor : tensors)
    if (const auto found = errors.find(tensor.value("name", "")); found != errors.end()) tensor["error"] = found->second;
}

Json coded_tensor_errors(const Checkpoint& model, const StateDict& before) {
  Json out = Json::array();
  for (const auto& [name, code] : model.codes) {
    const at::Tensor wanted = before.at(name).detach().to(at::kCPU, at::kFloat).contiguous(),
                     got = model.weights.at(name).to(at::kCPU, at::kFloat).contiguous();
    RelativeError error;
    error.add(wanted.const_data_ptr<float>(), got.const_data_ptr<float>(), wanted.numel());
    const int64_t bytes = code.blocks.nbytes() + (code.scales.defined() ? static_cast<int64_t>(code.scales.nbytes()) : 0);
    out.push_back({{"name", name}, {"type", ggml_type_info(code.type).name}, {"shape", code.shape}, {"bytes", bytes}, {"error", error.value()}});
  }
  return out;
}

}  // namespace attar
