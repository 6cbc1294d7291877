#pragma once
#include <optional>

#include "spec/gguf_names.h"
#include "stored/stored_model.h"

namespace attar {

/// One tensor of a GGUF file as a model gives it, a few rows at a time in the file's order: parts stacked, heads permuted, norms as the
/// architecture stores them. A vector counts as a column of rows. The model and the mapping must outlive it. Several threads may ask at once.
class GgufRows {
 public:
  GgufRows(const StoredModel& model, const GgufMapping& mapping);
  const std::string& name() const { return mapping_->gguf; }
  const std::vector<int64_t>& shape() const { return shape_; }  ///< row-major, as declared in the file
  int64_t rows() const { return ends_.back(); }
  int64_t columns() const { return parts_[0]->columns(); }
  /// The ggml type that all parts already have codes of, or nothing.
  std::optional<GgmlType> code_type() const;
  /// The numbers of rows [begin, begin + count), float32 (count, columns).
  void values(int64_t begin, int64_t count, float* out) const;
  /// Bytes of rows [begin, begin + count) under `type`: the model's own codes or bytes where it holds that type, else rounded from the
  /// values. importance: null or (columns). Error naming the parameter and index of a value that the type cannot hold.
  std::vector<uint8_t> bytes(GgmlType type, int64_t begin, int64_t count, const float* importance) const;
  /// Rows to take at a time: small beside any tensor, large beside what a call costs.
  int64_t rows_at_a_time() const;

 private:
  /// Calls take(part, first row of the file, rows of the parameter, count) for runs of rows that lie together in parameter and file.
  template <class Take>
  void for_runs(int64_t begin, int64_t count, const Take& take) const;
  [[noreturn]] void explain(const Error& error, GgmlType type, int64_t begin, const std::vector<float>& values) const;
  const StoredModel* model_;
  const GgufMapping* mapping_;
  std::vector<int64_t> shape_;
  std::vector<const StoredTensor*> parts_;
  std::vector<int64_t> ends_;  ///< first row after each part
};

}  // namespace attar
