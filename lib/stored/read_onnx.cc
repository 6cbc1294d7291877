#include <cstring>

#include "base/check.h"
#include "base/json.h"
#include "blocks/ggml_blocks.h"
#include "blocks/ggml_half.h"
#include "formats/onnx.h"
#include "stored/readers.h"

namespace attar {
namespace {

constexpr int64_t kOnnxBlock = 32;
constexpr const char* kOnnxSpec = "attar.spec";

ModelSpec spec_of_onnx(const OnnxFile& file, const fs::path& path) {
  const auto found = file.metadata().find(kOnnxSpec);
  if (found == file.metadata().end())
    fail("model " + path.string(), std::string("an ONNX file written by attar (metadata '") + kOnnxSpec + "')", "one of another writer",
         "give the model it was exported from");
  return spec_from_config(parse_json(found->second, path.string() + ": " + kOnnxSpec), path.string());
}

const OnnxInitializer& initializer_of(const OnnxFile& file, const fs::path& path, const std::string& name) {
  const auto found = file.initializers().find(name);
  if (found == file.initializers().end()) fail(path.string() + ": initializer " + name, "to be there", "nothing");
  return found->second;
}

void check_onnx_shape(const fs::path& path, const std::string& name, const OnnxInitializer& found, const std::vector<int64_t>& wanted) {
  if (found.shape != wanted)
    fail(path.string() + ": initializer " + name, "shape " + shape_text(wanted), shape_text(found.shape));
}

std::span<const uint8_t> onnx_scales(const OnnxFile& file, const fs::path& path, const std::string& weight, const std::vector<int64_t>& shape) {
  const std::string name = weight + "_scale";
  const OnnxInitializer& found = initializer_of(file, path, name);
  if (found.type != OnnxType::f32) fail(path.string() + ": initializer " + name, "float32", str("ONNX type ", static_cast<int>(found.type)));
  check_onnx_shape(path, name, found, shape);
  return found.bytes;
}

/// MatMulNBits' integers and scales back as the ggml blocks they are: 4 bits are q4_0 (zero point 8), 8 bits q8_0 (zero point 128).
/// Error naming `what` where a scale is no number that fp16 holds, as those of ggml's blocks are.
std::vector<uint8_t> ggml_blocks_of(const OnnxInitializer& stored, std::span<const uint8_t> scales, GgmlType type, const std::string& what) {
  const int64_t rows = stored.shape[0], blocks = stored.shape[1], width = stored.shape[2], bytes = ggml_type_info(type).bytes;
  std::vector<uint8_t> result(static_cast<size_t>(rows * blocks * bytes));
  const uint8_t* from = stored.bytes.data();
  for (int64_t i = 0; i < rows * blocks; ++i) {
    const uint8_t* packed = from + i * width;
    uint8_t* block = result.data() + i * bytes;
    float scale = 0;
    std::memcpy(&scale, scales.data() + i * 4, sizeof scale);
    const uint16_t half = fp32_to_fp16(scale);
    if (fp16_to_fp32(half) != scale) fail(what, "scales that fp16 holds", "others");
    std::memcpy(block, &half, 2);
    for (int64_t j = 0; j < width; ++j) {
      // Neighbours share a byte there; elements j and j + 16 share one here.
      const auto code = [&](int64_t k) { return packed[k / 2] >> (k % 2 * 4) & 15; };
      block[2 + j] = type == GgmlType::q4_0 ? static_cast<uint8_t>(code(j) | code(j + kOnnxBlock / 2) << 4) : static_cast<uint8_t>(packed[j] - 128);
    }
  }
  return result;
}

/// Gives the tensor bytes of its own, beside what it lay in, where its scales still lie.
void take_bytes(StoredTensor& tensor, std::vector<uint8_t> bytes) {
  using Kept = std::pair<std::vector<uint8_t>, std::shared_ptr<const void>>;
  const auto kept = std::make_shared<const Kept>(std::move(bytes), std::move(tensor.owner));
  tensor.bytes = kept->first;
  tensor.owner = kept;
}

/// A weight of the file; codes are added where it lies on a grid.
StoredTensor onnx_weight(const std::shared_ptr<const OnnxFile>& file, const fs::path& path, const ParameterInfo& parameter,
                         std::map<std::string, StoredTensor>& codes) {
  const OnnxInitializer& stored = initializer_of(*file, path, parameter.name);
  StoredTensor weight;
  weight.shape = parameter.shape;
  weight.owner = file;
  const int64_t rows = weight.rows(), columns = weight.columns();
  const bool matrix = parameter.shape.size() == 2;
  switch (stored.type) {
    case OnnxType::f32:
    case OnnxType::f16:
    case OnnxType::bf16:
    case OnnxType::f64:
      check_onnx_shape(path, parameter.name, stored, weight.shape);
      weight.type = stored.type == OnnxType::f32   ? GgmlType::f32
                    : stored.type == OnnxType::f16 ? GgmlType::f16
                    : stored.type == OnnxType::f64 ? GgmlType::f64
                                                   : GgmlType::bf16;
      weight.bytes = stored.bytes;
      return weight;
    case OnnxType::i8: {
      if (!matrix) break;
      check_onnx_shape(path, parameter.name, stored, {columns, rows});
      weight.type = GgmlType::i8;
      weight.scales = onnx_scales(*file, path, parameter.name, {rows});
      std::vector<uint8_t> turned(static_cast<size_t>(rows * columns));
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t c = 0; c < columns; ++c) turned[static_cast<size_t>(row * columns + c)] = stored.bytes[static_cast<size_t>(c * rows + row)];
      take_bytes(weight, std::move(turned));
      codes[parameter.name] = weight;
      return weight;
    }
    case OnnxType::u8: {
      if (!matrix || stored.shape.size() != 3) break;
      const int64_t blocks = (columns + kOnnxBlock - 1) / kOnnxBlock, filled = blocks * kOnnxBlock;
      const GgmlType type = stored.shape[2] == kOnnxBlock ? GgmlType::q8_0 : GgmlType::q4_0;
      check_onnx_shape(path, parameter.name, stored, {rows, blocks, type == GgmlType::q8_0 ? kOnnxBlock : kOnnxBlock / 2});
      const std::span<const uint8_t> scales = onnx_scales(*file, path, parameter.name, {rows, blocks});
      std::vector<uint8_t> table = ggml_blocks_of(stored, scales, type, path.string() + ": initializer " + parameter.name + "_scale");
      if (filled == columns) {
        weight.type = type;
        take_bytes(weight, std::move(table));
        codes[parameter.name] = weight;
        return weight;
      }
      // Rows that end inside a block: their numbers.
      std::vector<float> values(static_cast<size_t>(rows * filled));
      dequantize_rows(type, table.data(), values.data(), rows, filled);
      std::vector<uint8_t> cut(static_cast<size_t>(rows * columns) * 4);
      for (int64_t row = 0; row < rows; ++row)
        std::memcpy(cut.data() + row * columns * 4, values.data() + row * filled, static_cast<size_t>(columns) * 4);
      take_bytes(weight, std::move(cut));
      return weight;
    }
    default: break;
  }
  fail(path.string() + ": initializer " + parameter.name, "a weight as attar writes it", str("ONNX type ", static_cast<int>(stored.type)));
}

}  // namespace

ModelSpec onnx_spec(const fs::path& model) { return spec_of_onnx(OnnxFile(model), model); }

StoredModel stored_onnx(const fs::path& model) {
  const auto file = std::make_shared<const OnnxFile>(model);
  StoredModel stored;
  stored.spec = spec_of_onnx(*file, model);
  const auto text = [&](const char* key) {
    const auto found = file->metadata().find(key);
    return found == file->metadata().end() ? std::string() : found->second;
  };
  stored.license = text("license");
  stored.base_model = text("base_model");
  for (const ParameterInfo& parameter : parameters_of(stored.spec))
    stored.weights[parameter.name] = onnx_weight(file, model, parameter, stored.codes);
  return stored;
}

}  // namespace attar
