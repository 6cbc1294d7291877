#include "export/tensor_errors.h"

#include <cmath>

#include "blocks/ggml_blocks.h"
#include "export/gguf_rows.h"
#include "export/onnx_rows.h"
#include "formats/gguf.h"
#include "blocks/ggml_blocks.h"

namespace attar {
namespace {

void put_errors(const std::map<std::string, double>& errors, Json& tensors) {
  for (Json& tensor : tensors)
    if (const auto found = errors.find(tensor.value("name", "")); found != errors.end()) tensor["error"] = found->second;
}

}  // namespace

void RelativeError::add(const float* wanted, const float* got, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double value = wanted[i], difference = got[i] - value;
    difference_ += difference * difference;
    norm_ += value * value;
  }
}

double RelativeError::value() const { return difference_ == 0 ? 0 : std::sqrt(difference_ / norm_); }

void add_tensor_errors(const fs::path& gguf, const StoredModel& model, Json& tensors) {
  const GgufFile file(gguf);
  std::map<std::string, double> errors;
  std::vector<float> values, wanted;
  for (const GgufMapping& mapping : gguf_mapping(model.spec)) {
    const GgufRows rows(model, mapping);
    const GgufTensor* tensor = file.find(mapping.gguf);
    if (!tensor || tensor->shape != rows.shape()) continue;
    const int64_t width = ggml_row_bytes(tensor->type, rows.columns()), step = rows.rows_at_a_time();
    RelativeError error;
    for (int64_t begin = 0; begin < rows.rows(); begin += step) {
      const int64_t count = std::min(step, rows.rows() - begin);
      values.resize(static_cast<size_t>(count * rows.columns()));
      wanted.resize(values.size());
      rows.values(begin, count, wanted.data());
      dequantize_rows(tensor->type, file.bytes(*tensor).data() + begin * width, values.data(), count, rows.columns());
      error.add(wanted.data(), values.data(), count * rows.columns());
    }
    file.release(*tensor);
    errors[mapping.gguf] = error.value();
  }
  put_errors(errors, tensors);
}

void add_onnx_errors(const fs::path& model_file, const StoredModel& model, Json& tensors) {
  const OnnxFile file(model_file);
  std::map<std::string, double> errors;
  std::vector<float> wanted;
  for (const ParameterInfo& parameter : parameters_of(model.spec)) {
    const StoredTensor& weight = model.weight(parameter.name);
    RelativeError error;
    for_row_pieces(weight.rows(), weight.columns(), [&](int64_t begin, int64_t count) {
      wanted.resize(static_cast<size_t>(count * weight.columns()));
      weight.values(begin, count, wanted.data());
      const std::vector<float> got = onnx_rows(file, parameter.name, parameter.shape, begin, count);
      error.add(wanted.data(), got.data(), count * weight.columns());
    });
    errors[parameter.name] = error.value();
  }
  put_errors(errors, tensors);
}

Json coded_tensor_errors(const StoredModel& model, const StoredModel& before) {
  Json out = Json::array();
  std::vector<float> wanted, got;
  for (const auto& [name, code] : model.codes) {
    const StoredTensor &now = model.weight(name), &was = before.weight(name);
    RelativeError error;
    for_row_pieces(code.rows(), code.columns(), [&](int64_t begin, int64_t count) {
      wanted.resize(static_cast<size_t>(count * code.columns()));
      got.resize(wanted.size());
      was.values(begin, count, wanted.data());
      now.values(begin, count, got.data());
      error.add(wanted.data(), got.data(), count * code.columns());
    });
    out.push_back({{"name", name}, {"type", ggml_type_info(code.type).name}, {"shape", code.shape},
                   {"bytes", code.bytes.size() + code.scales.size()}, {"error", error.value()}});
  }
  return out;
}

}  // namespace attar
