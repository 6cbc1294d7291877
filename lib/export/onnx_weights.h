#pragma once
#include "formats/onnx.h"
#include "stored/stored_model.h"

namespace attar {

/// How a matrix lies in an ONNX file and what computes with it.
enum class OnnxForm {
  fp32, fp16,  ///< (rows, columns) as in the model; MatMul on its transpose
  int8,        ///< (columns, rows) with one float32 scale a row, the model's own i8 codes where it has them: DequantizeLinear, MatMul
  nbits4,      ///< blocks of 32: MatMulNBits with the zero point 8, ggml's q4_0 one to one
  nbits8,      ///< blocks of 32: MatMulNBits with the zero point 128, ggml's q8_0 one to one
};
const char* onnx_form_name(OnnxForm form);

/// One matrix as it will lie in the file. Bytes are made when asked for.
/// fp32, fp16: one initializer under the parameter's name. The others: that name for the integers and name + "_scale" for the scales.
class OnnxMatrix {
 public:
  OnnxMatrix(const StoredModel& model, std::string name, OnnxForm form);
  void declare(OnnxWriter& writer) const;
  OnnxForm form() const { return form_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t bytes() const;
  /// The numbers that the file gives, computed from the model alone: rows [begin, begin + count), float32.
  std::vector<float> values(int64_t begin, int64_t count) const;

 private:
  const StoredModel* model_;
  std::string name_;
  OnnxForm form_;
  int64_t rows_ = 0, columns_ = 0;
};

/// Rows of a weight as ggml blocks of 32, the last one filled up with zeros: the model's own codes where it has them.
std::vector<uint8_t> blocks_of_32(const StoredModel& model, const std::string& name, GgmlType type, int64_t begin, int64_t count);

}  // namespace attar
