#include "export/onnx_weights.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/ggml_blocks.h"

namespace attar {
namespace {

using ByteSink = std::function<void(const void*, size_t)>;
constexpr int64_t kBlock = 32;
constexpr int64_t kPieceElements = int64_t{1} << 22;

int64_t blocks_in(int64_t columns) { return (columns + kBlock - 1) / kBlock; }

const at::Tensor& matrix_of(const Checkpoint& model, const std::string& name) {
  const auto found = model.weights.find(name);
  if (found == model.weights.end()) fail("tensor " + name, "to be in the model", "nothing");
  return found->second;
}

at::Tensor float_rows(const Checkpoint& model, const std::string& name, int64_t begin, int64_t count) {
  return matrix_of(model, name).detach().narrow(0, begin, count).to(at::kCPU, at::kFloat).contiguous();
}

/// Calls `take` with pieces [begin, begin + count) of `rows` that hold about kPieceElements.
template <class Take>
void for_pieces(int64_t rows, int64_t columns, const Take& take) {
  const int64_t step = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(columns, 1));
  for (int64_t begin = 0; begin < rows; begin += step) take(begin, std::min(step, rows - begin));
}

[[noreturn]] void refuse_value(const std::string& name, const at::Tensor& values, int64_t begin, const char* type, float limit) {
  const float* data = values.const_data_ptr<float>();
  const int64_t columns = values.size(1);
  int64_t at = 0;
  while (at + 1 < values.numel() && std::fabs(data[at]) <= limit) ++at;
  fail("tensor " + name, str("finite numbers that ", type, " can hold"), str(data[at], " at [", begin + at / columns, ", ", at % columns, "]"));
}

bool within(const at::Tensor& values, float limit) {
  const float* data = values.const_data_ptr<float>();
  const int64_t count = values.numel();
  for (int64_t i = 0; i < count; ++i)
    if (!(std::fabs(data[i]) <= limit)) return false;
  return true;
}

/// The model's own integers and scales, null where it has none of a weight.
const QuantizedTensor* own_int8(const Checkpoint& model, const std::string& name) {
  const auto code = model.codes.find(name);
  return code != model.codes.end() && code->second.type == GgmlType::i8 ? &code->second : nullptr;
}

/// One scale a row: the model's own, or largest magnitude / 127; 1 for a row of zeros.
at::Tensor row_scales(const Checkpoint& model, const std::string& name) {
  if (const QuantizedTensor* own = own_int8(model, name)) return own->scales.to(at::kCPU).contiguous();
  const at::Tensor& weight = matrix_of(model, name);
  at::Tensor scales = at::empty({weight.size(0)}, at::kFloat);
  for_pieces(weight.size(0), weight.size(1), [&](int64_t begin, int64_t count) {
    const at::Tensor values = float_rows(model, name, begin, count);
    if (!within(values, std::numeric_limits<float>::max())) refuse_value(name, values, begin, "int8", std::numeric_limits<float>::max());
    const at::Tensor scale = values.abs().amax(1) / 127.0f;
    scales.narrow(0, begin, count).copy_(at::where(scale > 0, scale, at::ones_like(scale)));
  });
  return scales;
}

/// Integers of rows [begin, begin + count) beside their scales.
at::Tensor int8_rows(const Checkpoint& model, const std::string& name, int64_t begin, const at::Tensor& scales) {
  const int64_t count = scales.size(0);
  if (const QuantizedTensor* own = own_int8(model, name)) return own->blocks.narrow(0, begin, count).to(at::kCPU).contiguous().view(at::kChar);
  return at::round(float_rows(model, name, begin, count) / scales.unsqueeze(1)).clamp_(-127, 127).to(at::kChar);
}

/// ggml's q4_0 or q8_0 blocks -> bytes as MatMulNBits wants them, and scales.
void repack(GgmlType type, const at::Tensor& blocks, int64_t count, std::vector<uint8_t>& packed, std::vector<float>& scales) {
  const int64_t each = ggml_type_info(type).bytes;
  const uint8_t* from = blocks.const_data_ptr<uint8_t>();
  const int64_t width = type == GgmlType::q4_0 ? kBlock / 2 : kBlock;
  packed.resize(static_cast<size_t>(count * width));
  scales.resize(static_cast<size_t>(count));
#pragma omp parallel for schedule(static) if (count > 4096)
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* block = from + i * each;
    uint8_t* to = packed.data() + i * width;
    at::Half d;
    std::memcpy(&d.x, block, 2);
    scales[static_cast<size_t>(i)] = static_cast<float>(d);
    if (type == GgmlType::q4_0) {
      // Element j is in the low half of byte j, element j + 16 in its high half; here neighbours share a byte.
      for (int64_t j = 0; j < kBlock / 2; ++j) {
        const int64_t e = 2 * j;
        const auto nibble = [&](int64_t k) { return k < 16 ? block[2 + k] & 15 : block[2 + k - 16] >> 4; };
        to[j] = static_cast<uint8_t>(nibble(e) | nibble(e + 1) << 4);
      }
    } else {
      for (int64_t j = 0; j < kBlock; ++j) to[j] = static_cast<uint8_t>(static_cast<int8_t>(block[2 + j]) + 128);
    }
  }
}

GgmlType block_type(OnnxForm form) { return form == OnnxForm::nbits4 ? GgmlType::q4_0 : GgmlType::q8_0; }

}  // namespace

const char* onnx_form_name(OnnxForm form) {
  switch (form) {
    case OnnxForm::fp32: return "fp32";
    case OnnxForm::fp16: return "fp16";
    case OnnxForm::int8: return "int8";
    case OnnxForm::nbits4: return "int4 blocks of 32";
    default: return "int8 blocks of 32";
  }
}

at::Tensor blocks_of_32(const Checkpoint& model, const std::string& name, GgmlType type, int64_t begin, int64_t count) {
  const auto code = model.codes.find(name);
  if (code != model.codes.end() && code->second.type == type) return code->second.blocks.narrow(0, begin, count).to(at::kCPU).contiguous();
  at::Tensor values = float_rows(model, name, begin, count);
  if (!within(values, std::numeric_limits<float>::max())) refuse_value(name, values, begin, ggml_type_info(type).name,
      std::numeric_limits<float>::max());
  const int64_t columns = values.size(1), filled = blocks_in(columns) * kBlock;
  if (filled > columns) values = at::constant_pad_nd(values, {0, filled - columns}).contiguous();
  at::Tensor blocks = at::empty({count, ggml_row_bytes(type, filled)}, at::kByte);
  quantize_rows(type, values.const_data_ptr<float>(), blocks.data_ptr<uint8_t>(), count, filled);
  return blocks;
}

OnnxMatrix::OnnxMatrix(const Checkpoint& model, std::string name, OnnxForm form) : model_(&model), name_(std::move(name)), form_(form) {
  const at::Tensor& weight = matrix_of(model, name_);
  if (weight.dim() != 2) fail("tensor " + name_, "two dimensions", attar::str(weight.sizes()));
  rows_ = weight.size(0);
  columns_ = weight.size(1);
}

int64_t OnnxMatrix::bytes() const {
  switch (form_) {
    case OnnxForm::fp32: return rows_ * columns_ * 4;
    case OnnxForm::fp16: return rows_ * columns_ * 2;
    case OnnxForm::int8: return rows_ * columns_ + rows_ * 4;
    case OnnxForm::nbits4: return rows_ * blocks_in(columns_) * (kBlock / 2 + 4);
    default: return rows_ * blocks_in(columns_) * (kBlock + 4);
  }
}

void OnnxMatrix::declare(OnnxWriter& writer) const {
  const Checkpoint& model = *model_;
  const std::string name = name_;
  const int64_t rows = rows_, columns = columns_;
  if (form_ == OnnxForm::fp32 || form_ == OnnxForm::fp16) {
    const bool half = form_ == OnnxForm::fp16;
    const uint64_t size = static_cast<uint64_t>(rows * columns) * (half ? 2 : 4);
    writer.initializer(name, half ? OnnxType::f16 : OnnxType::f32, {rows, columns}, size, [&model, name, rows, columns, half](const ByteSink& sink) {
      for_pieces(rows, columns, [&](int64_t begin, int64_t count) {
        const at::Tensor values = float_rows(model, name, begin, count);
        if (!half) return sink(values.const_data_ptr(), values.nbytes());
        if (!within(values, 65504.0f)) refuse_value(name, values, begin, "fp16", 65504.0f);
        const at::Tensor halves = values.to(at::kHalf);
        sink(halves.const_data_ptr(), halves.nbytes());
      });
    });
  } else if (form_ == OnnxForm::int8) {
    writer.initializer(name, OnnxType::i8, {columns, rows}, static_cast<uint64_t>(rows * columns), [&model, name, rows,
        columns](const ByteSink& sink) {
      const at::Tensor scales = row_scales(model, name);
      at::Tensor whole = at::empty({columns, rows}, at::kChar);
      for_pieces(rows, columns, [&](int64_t begin, int64_t count) {
        whole.narrow(1, begin, count).copy_(int8_rows(model, name, begin, scales.narrow(0, begin, count)).t());
      });
      sink(whole.const_data_ptr(), whole.nbytes());
    });
    writer.initializer(name + "_scale", OnnxType::f32, {rows}, static_cast<uint64_t>(rows) * 4, [&model, name](const ByteSink& sink) {
      const at::Tensor scales = row_scales(model, name);
      sink(scales.const_data_ptr(), scales.nbytes());
    });
  } else {
    const GgmlType type = block_type(form_);
    const int64_t blocks = blocks_in(columns), width = form_ == OnnxForm::nbits4 ? kBlock / 2 : kBlock;
    // Scales are kept from the first pass, so that no weight is rounded twice.
    const auto kept = std::make_shared<std::vector<float>>();
    const auto pass = [&model, name, rows, columns, blocks, type, kept](const ByteSink& sink) {
      kept->clear();
      std::vector<uint8_t> packed;
      std::vector<float> scales;
      for_pieces(rows, columns, [&](int64_t begin, int64_t count) {
        repack(type, blocks_of_32(model, name, type, begin, count), count * blocks, packed, scales);
        kept->insert(kept->end(), scales.begin(), scales.end());
        sink(packed.data(), packed.size());
      });
    };
    writer.initializer(name, OnnxType::u8, {rows, blocks, width}, static_cast<uint64_t>(rows * blocks * width), pass);
    writer.initializer(name + "_scale", OnnxType::f32, {rows, blocks}, static_cast<uint64_t>(rows * blocks) * 4, [kept, pass](const ByteSink& sink) {
      if (kept->empty()) pass([](const void*, size_t) {});
      sink(kept->data(), kept->size() * 4);
      kept->clear();
      kept->shrink_to_fit();
    });
  }
}

at::Tensor OnnxMatrix::values(int64_t begin, int64_t count) const {
  const at::Tensor own = float_rows(*model_, name_, begin, count);
  if (form_ == OnnxForm::fp32) return own;
  if (form_ == OnnxForm::fp16) return own.to(at::kHalf).to(at::kFloat);
  if (form_ == OnnxForm::int8) {
    const QuantizedTensor* codes = own_int8(*model_, name_);
    const at::Tensor largest = own.abs().amax(1) / 127.0f;
    const at::Tensor scales = codes ? codes->scales.to(at::kCPU).narrow(0, begin, count) : at::where(largest > 0, largest, at::ones_like(largest));
    return int8_rows(*model_, name_, begin, scales).to(at::kFloat) * scales.unsqueeze(1);
  }
  const GgmlType type = block_type(form_);
  const int64_t filled = blocks_in(columns_) * kBlock;
  at::Tensor values = at::empty({count, filled}, at::kFloat);
  dequantize_rows(type, blocks_of_32(*model_, name_, type, begin, count).const_data_ptr<uint8_t>(), values.data_ptr<float>(), count, filled);
  return values.narrow(1, 0, columns_).contiguous();
}

}  // namespace attar
