#pragma once
#include "base/json.h"
#include "stored/stored_model.h"

namespace attar {

/// How far a value lies from what it stands for: ||got - wanted|| / ||wanted|| (Frobenius norms, summed in float64); 0 for two zeros.
class RelativeError {
 public:
  void add(const float* wanted, const float* got, int64_t count);
  double value() const;

 private:
  double difference_ = 0, norm_ = 0;
};

/// Adds `error` to each entry of a GGUF export's list of tensors: that of the file's dequantized values against the model's, read a few rows at a
/// time.
void add_tensor_errors(const fs::path& gguf, const StoredModel& model, Json& tensors);

/// The same of an ONNX export's list.
void add_onnx_errors(const fs::path& model_file, const StoredModel& model, Json& tensors);

/// The same of a model whose weights were put on a grid, against the weights before: a list of name, type, shape, bytes and error of every coded
/// weight.
Json coded_tensor_errors(const StoredModel& model, const StoredModel& before);

}  // namespace attar
