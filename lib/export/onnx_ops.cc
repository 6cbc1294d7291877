#include "export/onnx_ops.h"

#include <cstring>

#include "base/check.h"

namespace attar {
namespace {

constexpr const char* kContrib = "com.microsoft";

}  // namespace

std::string OnnxOps::op(const std::string& scope, const std::string& kind, const std::vector<std::string>& inputs, const Attributes& attributes,
                        const std::string& domain) {
  const std::string base = scope + "/" + kind;
  const int count = used_[base]++;
  const std::string name = count ? base + "_" + std::to_string(count) : base;
  writer_->node(kind, inputs, {name}, attributes, domain, name);
  return name;
}

std::string OnnxOps::whole(const std::vector<int64_t>& values) {
  std::string name = "constant/i";
  for (const int64_t value : values) name += "_" + std::to_string(value);
  if (constants_.insert(name).second)
    writer_->constant(name, OnnxType::i64, {static_cast<int64_t>(values.size())}, values.data(), values.size() * sizeof(int64_t));
  return name;
}

std::string OnnxOps::scalar(int64_t value) {
  const std::string name = "constant/scalar_" + std::to_string(value);
  if (constants_.insert(name).second) writer_->constant(name, OnnxType::i64, {}, &value, sizeof value);
  return name;
}

std::string OnnxOps::number(double value) {
  const float narrow = static_cast<float>(value);
  uint32_t bits = 0;
  std::memcpy(&bits, &narrow, sizeof bits);
  const std::string name = "constant/f_" + std::to_string(bits);
  if (constants_.insert(name).second) writer_->constant(name, OnnxType::f32, {}, &narrow, sizeof narrow);
  return name;
}

std::string OnnxOps::numbers(const std::string& name, const std::vector<float>& values) {
  writer_->constant(name, OnnxType::f32, {static_cast<int64_t>(values.size())}, values.data(), values.size() * sizeof(float));
  return name;
}

std::string OnnxOps::vector(const std::string& name) {
  if (!constants_.insert(name).second) return name;
  const StoredTensor& weight = model_->weight(name);
  std::vector<float> values(static_cast<size_t>(weight.rows() * weight.columns()));
  weight.values(0, weight.rows(), values.data());
  writer_->constant(name, OnnxType::f32, weight.shape, values.data(), values.size() * sizeof(float));
  return name;
}

const OnnxMatrix& OnnxOps::matrix(const std::string& name) {
  const auto [place, fresh] = declared_.try_emplace(name, *model_, name, forms_->at(name));
  if (fresh) place->second.declare(*writer_);
  return place->second;
}

std::string OnnxOps::linear(const std::string& scope, const std::string& x, const std::string& name) {
  const OnnxMatrix& w = matrix(name);
  std::string y;
  switch (w.form()) {
    case OnnxForm::fp32:
    case OnnxForm::fp16: {
      std::string& turned = transposed_[name];
      if (turned.empty()) {
        const std::string values = w.form() == OnnxForm::fp16 ? op(scope, "Cast", {name}, {{"to", int64_t{1}}}) : name;
        turned = op(scope, "Transpose", {values}, {{"perm", std::vector<int64_t>{1, 0}}});
      }
      y = op(scope, "MatMul", {x, turned});
      break;
    }
    case OnnxForm::int8: {
      const std::string values = op(scope, "DequantizeLinear", {name, name + "_scale"}, {{"axis", int64_t{1}}});
      y = op(scope, "MatMul", {x, values});
      break;
    }
    default:
      y = op(scope, "MatMulNBits", {x, name, name + "_scale"},
             {{"K", w.columns()}, {"N", w.rows()}, {"bits", int64_t{w.form() == OnnxForm::nbits4 ? 4 : 8}}, {"block_size", int64_t{32}}}, kContrib);
  }
  const std::string bias = name.substr(0, name.size() - std::strlen("weight")) + "bias";
  return model_->weights.count(bias) ? op(scope, "Add", {y, vector(bias)}) : y;
}

std::string OnnxOps::embedding(const std::string& scope, const std::string& ids, const std::string& name) {
  const OnnxMatrix& w = matrix(name);
  switch (w.form()) {
    case OnnxForm::fp32: return op(scope, "Gather", {name, ids}, {{"axis", int64_t{0}}});
    case OnnxForm::fp16: return op(scope, "Cast", {op(scope, "Gather", {name, ids}, {{"axis", int64_t{0}}})}, {{"to", int64_t{1}}});
    case OnnxForm::int8: {
      // Columns of the (D, V) matrix: (D, B, T) -> (B, T, D), each times its own scale.
      const std::string columns = op(scope, "Gather", {name, ids}, {{"axis", int64_t{1}}});
      const std::string turned = op(scope, "Cast", {op(scope, "Transpose", {columns}, {{"perm", std::vector<int64_t>{1, 2, 0}}})}, {{"to",
          int64_t{1}}});
      const std::string scales = op(scope, "Gather", {name + "_scale", ids}, {{"axis", int64_t{0}}});
      return op(scope, "Mul", {turned, op(scope, "Unsqueeze", {scales, whole({-1})})});
    }
    default: {
      const std::string flat = reshape(scope, name, {w.rows(), -1});
      return op(scope, "GatherBlockQuantized", {flat, ids, name + "_scale"},
                {{"gather_axis", int64_t{0}}, {"quantize_axis", int64_t{1}}, {"block_size", int64_t{32}}, {"bits",
                    int64_t{w.form() == OnnxForm::nbits4 ? 4 : 8}}}, kContrib);
    }
  }
}

std::string OnnxOps::norm(const std::string& scope, const std::string& x, const std::string& name) {
  const std::string square = op(scope, "Pow", {x, number(2)});
  const std::string mean = op(scope, "ReduceMean", {square, whole({-1})}, {{"keepdims", int64_t{1}}});
  const std::string root = op(scope, "Sqrt", {op(scope, "Add", {mean, number(spec().norm_eps)})});
  std::string weight = vector(name);
  if (spec().norm_offset) weight = op(scope, "Add", {weight, number(1)});
  return op(scope, "Mul", {op(scope, "Div", {x, root}), weight});
}

}  // namespace attar
