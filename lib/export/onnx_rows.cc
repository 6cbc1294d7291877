#include "export/onnx_rows.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/check.h"

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
  fail("ONNX initializer " + name, attar::str("a form of a parameter of shape ", at::IntArrayRef(shape)),
       attar::str("type ", static_cast<int32_t>(found.type), " of ", at::IntArrayRef(found.shape)));
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

at::Tensor onnx_rows(const OnnxFile& file, const std::string& name, const std::vector<int64_t>& shape, int64_t begin, int64_t count) {
  const OnnxInitializer& found = proven_initializer(file, name);
  const int64_t columns = shape.size() == 2 ? shape[1] : 1;
  std::vector<int64_t> part = shape;
  part[0] = count;
  if ((found.type == OnnxType::f32 || found.type == OnnxType::f16) && found.shape == shape) {
    const at::ScalarType stored = found.type == OnnxType::f32 ? at::kFloat : at::kHalf;
    at::Tensor values = at::empty(part, stored);
    const size_t each = c10::elementSize(stored);
    std::memcpy(values.data_ptr(), found.bytes.data() + static_cast<size_t>(begin * columns) * each, values.nbytes());
    return values.to(at::kFloat);
  }
  at::Tensor values = at::empty(part, at::kFloat);
  float* out = values.data_ptr<float>();
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
