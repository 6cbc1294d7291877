#pragma once
#include <ATen/core/Tensor.h>

#include "formats/onnx.h"
#include "model/checkpoint.h"

namespace attar {

/// Metadata of an ONNX file of attar's: config.json's text, the licence and what the model was made from.
inline constexpr const char* kOnnxSpecKey = "attar.spec";
inline constexpr const char* kOnnxLicenseKey = "attar.license";
inline constexpr const char* kOnnxBaseKey = "attar.base_model";
/// The scales beside an initializer of integers have its name and this.
inline constexpr const char* kOnnxScale = "_scale";

/// Rows [begin, begin + count) of a parameter of an ONNX file of attar's, as float32. `shape`: the parameter's; Error if the file's
/// initializers do not make it. Forms: f32 or f16 (rows, columns); i8 (columns, rows) with scales (rows); u8 (rows, blocks of 32, bytes)
/// with scales (rows, blocks), two numbers a byte (zero 8) or one (zero 128).
at::Tensor onnx_rows(const OnnxFile& file, const std::string& name, const std::vector<int64_t>& shape, int64_t begin, int64_t count);

/// The parameter as ggml blocks (q4_0 or q8_0) if the file's blocks are such: whole blocks, scales that are half-precision numbers.
std::optional<QuantizedTensor> onnx_codes(const OnnxFile& file, const std::string& name, const std::vector<int64_t>& shape);

}  // namespace attar
