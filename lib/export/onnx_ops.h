#pragma once
#include <set>

#include "export/onnx_weights.h"
#include "formats/onnx.h"

namespace attar {

/// Writes one node at a time and gives its output's name; constants are shared by value.
class OnnxOps {
 public:
  OnnxOps(OnnxWriter& writer, const StoredModel& model, const std::map<std::string, OnnxForm>& forms)
      : writer_(&writer), model_(&model), forms_(&forms) {}
  using Attributes = std::vector<std::pair<std::string, OnnxAttribute>>;

  /// One node with one output, named `scope` + "/" + op + a number.
  std::string op(const std::string& scope, const std::string& kind, const std::vector<std::string>& inputs, const Attributes& attributes = {},
                 const std::string& domain = "");
  std::string whole(const std::vector<int64_t>& values);  ///< int64 (n)
  std::string scalar(int64_t value);                      ///< int64 without dimensions
  std::string number(double value);                       ///< float32 without dimensions
  std::string numbers(const std::string& name, const std::vector<float>& values);
  /// A one-dimensional parameter as float32, under its own name.
  std::string vector(const std::string& name);
  std::string reshape(const std::string& scope, const std::string& x, const std::vector<int64_t>& shape) {
    return op(scope, "Reshape", {x, whole(shape)});
  }

  /// x (.., in) -> (.., out) by the parameter `name`, with the bias beside it if the model has one.
  std::string linear(const std::string& scope, const std::string& x, const std::string& name);
  /// Rows of the parameter `name`: ids (B, T) -> (B, T, D).
  std::string embedding(const std::string& scope, const std::string& ids, const std::string& name);
  /// x / sqrt(mean(x^2) + eps) * (w or 1 + w), over the last axis.
  std::string norm(const std::string& scope, const std::string& x, const std::string& name);

  OnnxWriter& writer() { return *writer_; }
  const ModelSpec& spec() const { return model_->spec; }

 private:
  const OnnxMatrix& matrix(const std::string& name);
  OnnxWriter* writer_;
  const StoredModel* model_;
  const std::map<std::string, OnnxForm>* forms_;
  std::map<std::string, OnnxMatrix> declared_;
  std::map<std::string, std::string> transposed_;
  std::set<std::string> constants_;
  std::map<std::string, int> used_;
};

}  // namespace attar
