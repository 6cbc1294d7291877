#pragma once
#include "formats/onnx.h"

namespace attar {

/// Rows [begin, begin + count) of a parameter of an ONNX file of attar's, as float32, read for the proof alone: how the stored room
/// reads such a file is no part of it. `shape`: the parameter's; Error if the file's initializers do not make it.
/// Forms: f32 or f16 (rows, columns); i8 (columns, rows) with scales (rows); u8 (rows, blocks of 32, bytes) with scales (rows, blocks), two
/// numbers a byte (zero 8) or one (zero 128). Scales have the parameter's name and "_scale".
std::vector<float> onnx_rows(const OnnxFile& file, const std::string& name, const std::vector<int64_t>& shape, int64_t begin, int64_t count);

}  // namespace attar
