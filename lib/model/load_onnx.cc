#include <ATen/ATen.h>

#include <cstring>

#include "base/check.h"
#include "base/json.h"
#include "formats/onnx.h"
#include "kernels/ggml_blocks.h"
#include "model/load_parts.h"

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
    fail(path.string() + ": initializer " + name, attar::str("shape ", at::IntArrayRef(wanted)), attar::str(at::IntArrayRef(found.shape)));
}

at::Tensor onnx_scales(const OnnxFile& file, const fs::path& path, const std::string& weight, const std::vector<int64_t>& shape) {
  const std::string name = weight + "_scale";
  const OnnxInitializer& found = initializer_of(file, path, name);
  if (found.type != OnnxType::f32) fail(path.string() + ": initializer " + name, "float32", str("ONNX type ", static_cast<int>(found.type)));
  check_onnx_shape(path, name, found, shape);
  at::Tensor scales = at::empty(shape, at::kFloat);
  std::memcpy(scales.data_ptr(), found.bytes.data(), std::min(found.bytes.size(), scales.nbytes()));
  return scales;
}

/// MatMulNBits' integers and scales back as the ggml blocks they are: 4 bits are q4_0 (zero point 8), 8 bits q8_0 (zero point 128).
at::Tensor ggml_blocks_of(const OnnxInitializer& stored, const at::Tensor& scales, GgmlType type) {
  const int64_t rows = stored.shape[0], blocks = stored.shape[1], width = stored.shape[2], bytes = ggml_type_info(type).bytes;
  at::Tensor result = at::empty({rows, blocks * bytes}, at::kByte);
  const uint8_t* from = stored.bytes.data();
  const float* scale = scales.const_data_ptr<float>();
  uint8_t* to = result.data_ptr<uint8_t>();
  for (int64_t i = 0; i < rows * blocks; ++i) {
    const uint8_t* packed = from + i * width;
    uint8_t* block = to + i * bytes;
    const at::Half d(scale[i]);
    std::memcpy(block, &d.x, 2);
    for (int64_t j = 0; j < width; ++j) {
      // Neighbours share a byte there; elements j and j + 16 share one here.
      const auto code = [&](int64_t k) { return packed[k / 2] >> (k % 2 * 4) & 15; };
      block[2 + j] = type == GgmlType::q4_0 ? static_cast<uint8_t>(code(j) | code(j + kOnnxBlock / 2) << 4) : static_cast<uint8_t>(packed[j] - 128);
    }
  }
  return result;
}

/// True if every scale is a number that fp16 holds, as those of ggml's blocks are.
bool scales_are_halves(const at::Tensor& scales) { return at::equal(scales.to(at::kHalf).to(at::kFloat), scales); }

/// A weight of the file; codes are added where it lies on a ggml grid.
at::Tensor onnx_weight(const std::shared_ptr<OnnxFile>& file, const fs::path& path, const ParameterInfo& parameter, const LoadOptions& options,
                       std::map<std::string, QuantizedTensor>& codes) {
  const OnnxInitializer& stored = initializer_of(*file, path, parameter.name);
  const std::vector<int64_t>& shape = parameter.shape;
  const auto loaded = [&](const at::Tensor& values) { return values.to(options.device, options.keep_dtype ? values.scalar_type() : options.dtype); };
  switch (stored.type) {
    case OnnxType::f32:
    case OnnxType::f16:
    case OnnxType::bf16:
    case OnnxType::f64: {
      check_onnx_shape(path, parameter.name, stored, shape);
      const at::ScalarType type = stored.type == OnnxType::f32   ? at::kFloat
                                  : stored.type == OnnxType::f16 ? at::kHalf
                                  : stored.type == OnnxType::f64 ? at::kDouble
                                                                 : at::kBFloat16;
      return mapped_tensor(stored.bytes, type, shape, options, file);
    }
    case OnnxType::i8: {
      if (shape.size() != 2) break;
      check_onnx_shape(path, parameter.name, stored, {shape[1], shape[0]});
      const at::Tensor scales = onnx_scales(*file, path, parameter.name, {shape[0]});
      at::Tensor integers = at::empty({shape[1], shape[0]}, at::kChar);
      std::memcpy(integers.data_ptr(), stored.bytes.data(), std::min(stored.bytes.size(), integers.nbytes()));
      const at::Tensor rows = integers.t().contiguous();
      if (options.keep_dtype || options.dtype == at::kFloat) codes[parameter.name] = {GgmlType::i8, shape, rows.view(at::kByte), scales};
      return loaded(rows.to(at::kFloat) * scales.unsqueeze(1));
    }
    case OnnxType::u8: {
      if (shape.size() != 2 || stored.shape.size() != 3) break;
      const int64_t blocks = (shape[1] + kOnnxBlock - 1) / kOnnxBlock;
      const GgmlType type = stored.shape[2] == kOnnxBlock ? GgmlType::q8_0 : GgmlType::q4_0;
      check_onnx_shape(path, parameter.name, stored, {shape[0], blocks, type == GgmlType::q8_0 ? kOnnxBlock : kOnnxBlock / 2});
      const at::Tensor scales = onnx_scales(*file, path, parameter.name, {shape[0], blocks});
      if (!scales_are_halves(scales)) fail(path.string() + ": initializer " + parameter.name + "_scale", "scales that fp16 holds", "others");
      const at::Tensor table = ggml_blocks_of(stored, scales, type);
      at::Tensor values = at::empty({shape[0], blocks * kOnnxBlock}, at::kFloat);
      dequantize_rows(type, table.const_data_ptr<uint8_t>(), values.data_ptr<float>(), shape[0], blocks * kOnnxBlock);
      if (shape[1] % kOnnxBlock == 0 && (options.keep_dtype || options.dtype == at::kFloat)) codes[parameter.name] = {type, shape, table};
      return loaded(values.narrow(1, 0, shape[1]).contiguous());
    }
    default: break;
  }
  fail(path.string() + ": initializer " + parameter.name, "a weight as attar writes it", str("ONNX type ", static_cast<int>(stored.type)));
}

}  // namespace

ModelSpec onnx_spec(const fs::path& model) { return spec_of_onnx(OnnxFile(model), model); }

Checkpoint onnx_checkpoint(const fs::path& model, const LoadOptions& options) {
  const auto file = std::make_shared<OnnxFile>(model);
  Checkpoint checkpoint;
  checkpoint.spec = spec_of_onnx(*file, model);
  const auto text = [&](const char* key) {
    const auto found = file->metadata().find(key);
    return found == file->metadata().end() ? std::string() : found->second;
  };
  checkpoint.license = text("license");
  checkpoint.base_model = text("base_model");
  for (const ParameterInfo& parameter : parameters_of(checkpoint.spec))
    checkpoint.weights[parameter.name] = onnx_weight(file, model, parameter, options, checkpoint.codes);
  return checkpoint;
}

}  // namespace attar
