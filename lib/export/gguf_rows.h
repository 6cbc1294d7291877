#pragma once
#include <ATen/core/Tensor.h>

#include "model/checkpoint.h"
#include "spec/gguf_names.h"

namespace attar {

/// One tensor of a GGUF file as a model gives it, a few rows at a time in the file's order: parts stacked, heads permuted, norms as the
/// architecture stores them. A vector counts as a column of rows. The checkpoint and the mapping must outlive it.
class GgufRows {
 public:
  GgufRows(const Checkpoint& model, const GgufMapping& mapping);
  const std::string& name() const { return mapping_->gguf; }
  const std::vector<int64_t>& shape() const { return shape_; }  ///< row-major, as declared in the file
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  /// The ggml type that all parts already have codes of, or nothing.
  std::optional<GgmlType> code_type() const;
  /// Bytes of rows [begin, begin + count) under `type`: the model's own codes or bytes where it holds that type, else rounded from the
  /// values. importance: null or (columns). Error naming the parameter and index of a value that the type cannot hold.
  at::Tensor bytes(GgmlType type, int64_t begin, int64_t count, const float* importance) const;
  /// Rows to take at a time so that pieces stay small beside the tensor.
  int64_t rows_at_a_time() const;

 private:
  at::Tensor gather(bool codes, int64_t begin, int64_t count) const;
  [[noreturn]] void explain(const Error& error, GgmlType type, int64_t begin, const at::Tensor& values) const;
  const Checkpoint* model_;
  const GgufMapping* mapping_;
  std::vector<int64_t> shape_;
  std::vector<int64_t> ends_;  ///< first row after each part
  int64_t rows_ = 0, columns_ = 1;
};

/// LibTorch's type of a plain ggml type, or nothing.
std::optional<at::ScalarType> plain_type(GgmlType type);

}  // namespace attar
