#include "export/onnx_rows.h"

#include <cstring>

#include "base/check.h"
#include "blocks/ggml_blocks.h"
#include "stored/stored_model.h"

namespace attar {
namespace {

constexpr int64_t kRowsBlock = 32;

const OnnxInitializer& proven_initializer(const OnnxFile& file, const std::string& name) {
  const auto found = file.initializers().find(name);
  if (found == file.initializers().end()) fail("ONNX initializer " + name, "to be in the file", "nothing",
      "only ONNX files written by attar are read back");
  return found->second;
}

[[noreturn]] void refuse_form(const std::string& name, const std::vector<int64_t>& shape, const OnnxInitializer& found) {
  fail("ONNX initializer " + name, "a form of a parameter of shape " + shape_text(shape),
       str("type ", static_cast<int32_t>(found.type), " of ", shape_text(found.shape)));
}

float float_at(std::span<const uint8_t> bytes, int64_t index) {
  float value = 0;
  std::memcpy(&value, bytes.data() + index * 4, 4);
  return value;
}

std::span<const uint8_t> proven_scales(const OnnxFile& file, const std::string& name, const std::vector<int64_t>& expected) {
  const OnnxInitializer& scales = proven_initializer(file, name + "_scale");
  if (scales.type != OnnxType::f32 || scales.shape != expected) refuse_form(name + "_scale", expected, scales);
  return scales.bytes;
}

/// Bytes of a block of 32 if `found` holds such blocks of a (rows, columns) parameter, else 0.
int64_t block_width(const OnnxInitializer& found, const std::vector<int64_t>& shape) {
  if (found.type != OnnxType::u8 || shape.size() != 2 || found.shape.size() != 3) return 0;
  const int64_t blocks = (shape[1] + kRowsBlock - 1) / kRowsBlock, width = found.shape[2];
  return found.shape[0] == shape[0] && found.shape[1] == blocks && (width == kRowsBlock || width == kRowsBlock / 2) ? width : 0;
}

}  // namespace

std::vector<float> onnx_rows(const OnnxFile& file, const std::string& name, const std::vector<int64_t>& shape, int64_t begin, int64_t count) {
  const OnnxInitializer& found = proven_initializer(file, name);
  const int64_t columns = shape.size() == 2 ? shape[1] : 1;
  std::vector<float> values(static_cast<size_t>(count * columns));
  float* out = values.data();
  if ((found.type == OnnxType::f32 || found.type == OnnxType::f16) && found.shape == shape) {
    const GgmlType stored = found.type == OnnxType::f32 ? GgmlType::f32 : GgmlType::f16;
    dequantize_rows(stored, found.bytes.data() + begin * ggml_row_bytes(stored, columns), out, count, columns);
    return values;
  }
  if (found.type == OnnxType::i8 && shape.size() == 2 && found.shape == std::vector<int64_t>{columns, shape[0]}) {
    const std::span<const uint8_t> scales = proven_scales(file, name, {shape[0]});
    for (int64_t row = 0; row < count; ++row) {
      const float scale = float_at(scales, begin + row);
      for (int64_t c = 0; c < columns; ++c)
        out[row * columns + c] = static_cast<float>(static_cast<int8_t>(found.bytes[static_cast<size_t>(c * shape[0] + begin + row)])) * scale;
    }
    return values;
  }
  const int64_t width = block_width(found, shape);
  if (width == 0) refuse_form(name, shape, found);
  const int64_t blocks = found.shape[1];
  const std::span<const uint8_t> scales = proven_scales(file, name, {shape[0], blocks});
#pragma omp parallel for schedule(static) if (count * columns > 65536)
  for (int64_t row = 0; row < count; ++row)
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t block = (begin + row) * blocks + c / kRowsBlock, e = c % kRowsBlock;
      const uint8_t* bytes = found.bytes.data() + block * width;
      const int number = width == kRowsBlock ? bytes[e] - 128 : (bytes[e / 2] >> (e % 2 * 4) & 15) - 8;
      out[row * columns + c] = static_cast<float>(number) * float_at(scales, block);
    }
  return values;
}

}  // namespace attar
