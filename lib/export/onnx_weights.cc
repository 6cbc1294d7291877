#include "export/onnx_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "blocks/ggml_blocks.h"
#include "blocks/ggml_half.h"
#include "blocks/ggml_blocks.h"

namespace attar {
namespace {

using ByteSink = std::function<void(const void*, size_t)>;
constexpr int64_t kBlock = 32;

int64_t blocks_in(int64_t columns) { return (columns + kBlock - 1) / kBlock; }

std::vector<float> float_rows(const StoredTensor& weight, int64_t begin, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count * weight.columns()));
  weight.values(begin, count, values.data());
  return values;
}

/// Error naming the first value whose magnitude is not `limit` at most.
void check_values(const std::string& name, const std::vector<float>& values, int64_t begin, int64_t columns, const char* type, float limit) {
  const auto refused = std::find_if(values.begin(), values.end(), [&](float value) { return !(std::fabs(value) <= limit); });
  if (refused == values.end()) return;
  const int64_t at = refused - values.begin();
  fail("tensor " + name, str("finite numbers that ", type, " can hold"), str(*refused, " at [", begin + at / columns, ", ", at % columns, "]"));
}

/// One scale a row: the model's own, or largest magnitude / 127; 1 for a row of zeros.
std::vector<float> row_scales(const StoredModel& model, const std::string& name, int64_t begin, int64_t count) {
  std::vector<float> scales(static_cast<size_t>(count));
  if (const StoredTensor* own = model.code(name, GgmlType::i8)) {
    std::memcpy(scales.data(), own->scales.data() + begin * 4, scales.size() * sizeof(float));
    return scales;
  }
  const StoredTensor& weight = model.weight(name);
  const int64_t columns = weight.columns();
  for_row_pieces(count, columns, [&](int64_t first, int64_t some) {
    const std::vector<float> values = float_rows(weight, begin + first, some);
    check_values(name, values, begin + first, columns, "int8", std::numeric_limits<float>::max());
    for (int64_t row = 0; row < some; ++row) {
      float largest = 0;
      for (int64_t c = 0; c < columns; ++c) largest = std::max(largest, std::fabs(values[static_cast<size_t>(row * columns + c)]));
      const float scale = largest / 127.0f;
      scales[static_cast<size_t>(first + row)] = scale > 0 ? scale : 1;
    }
  });
  return scales;
}

/// Integers of rows [begin, begin + count); `scales`: theirs.
std::vector<int8_t> int8_rows(const StoredModel& model, const std::string& name, int64_t begin, int64_t count, const float* scales) {
  const StoredTensor& weight = model.weight(name);
  const int64_t columns = weight.columns();
  std::vector<int8_t> rows(static_cast<size_t>(count * columns));
  if (const StoredTensor* own = model.code(name, GgmlType::i8)) {
    std::vector<uint8_t> room;
    std::memcpy(rows.data(), own->rows_together(begin, count, room), rows.size());
    return rows;
  }
  const std::vector<float> values = float_rows(weight, begin, count);
  for (int64_t row = 0; row < count; ++row)
    for (int64_t c = 0; c < columns; ++c) {
      const auto at = static_cast<size_t>(row * columns + c);
      rows[at] = static_cast<int8_t>(std::clamp(std::nearbyint(values[at] / scales[row]), -127.0f, 127.0f));
    }
  return rows;
}

/// ggml's q4_0 or q8_0 blocks -> bytes as MatMulNBits wants them, and scales.
void repack(GgmlType type, const std::vector<uint8_t>& blocks, int64_t count, std::vector<uint8_t>& packed, std::vector<float>& scales) {
  const int64_t each = ggml_type_info(type).bytes;
  const uint8_t* from = blocks.data();
  const int64_t width = type == GgmlType::q4_0 ? kBlock / 2 : kBlock;
  packed.resize(static_cast<size_t>(count * width));
  scales.resize(static_cast<size_t>(count));
#pragma omp parallel for schedule(static) if (count > 4096)
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* block = from + i * each;
    uint8_t* to = packed.data() + i * width;
    scales[static_cast<size_t>(i)] = load_half(block);
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

std::vector<uint8_t> blocks_of_32(const StoredModel& model, const std::string& name, GgmlType type, int64_t begin, int64_t count) {
  const StoredTensor& weight = model.weight(name);
  const int64_t columns = weight.columns(), filled = blocks_in(columns) * kBlock;
  std::vector<uint8_t> blocks(static_cast<size_t>(count * ggml_row_bytes(type, filled)));
  if (const StoredTensor* code = model.code(name, type)) {
    std::vector<uint8_t> room;
    std::memcpy(blocks.data(), code->rows_together(begin, count, room), blocks.size());
    return blocks;
  }
  std::vector<float> values = float_rows(weight, begin, count);
  check_values(name, values, begin, columns, ggml_type_info(type).name, std::numeric_limits<float>::max());
  if (filled > columns) {
    std::vector<float> wide(static_cast<size_t>(count * filled), 0.0f);
    for (int64_t row = 0; row < count; ++row)
      std::memcpy(wide.data() + row * filled, values.data() + row * columns, static_cast<size_t>(columns) * sizeof(float));
    values.swap(wide);
  }
  quantize_rows(type, values.data(), blocks.data(), count, filled);
  return blocks;
}

OnnxMatrix::OnnxMatrix(const StoredModel& model, std::string name, OnnxForm form) : model_(&model), name_(std::move(name)), form_(form) {
  const StoredTensor& weight = model.weight(name_);
  if (weight.shape.size() != 2) fail("tensor " + name_, "two dimensions", shape_text(weight.shape));
  rows_ = weight.rows();
  columns_ = weight.columns();
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
  const StoredModel& model = *model_;
  const std::string name = name_;
  const int64_t rows = rows_, columns = columns_;
  if (form_ == OnnxForm::fp32 || form_ == OnnxForm::fp16) {
    const bool half = form_ == OnnxForm::fp16;
    const uint64_t size = static_cast<uint64_t>(rows * columns) * (half ? 2 : 4);
    writer.initializer(name, half ? OnnxType::f16 : OnnxType::f32, {rows, columns}, size, [&model, name, rows, columns, half](const ByteSink& sink) {
      std::vector<uint8_t> halves;
      for_row_pieces(rows, columns, [&](int64_t begin, int64_t count) {
        const std::vector<float> values = float_rows(model.weight(name), begin, count);
        if (!half) return sink(values.data(), values.size() * sizeof(float));
        check_values(name, values, begin, columns, "fp16", 65504.0f);
        halves.resize(values.size() * 2);
        quantize_rows(GgmlType::f16, values.data(), halves.data(), count, columns);
        sink(halves.data(), halves.size());
      });
    });
  } else if (form_ == OnnxForm::int8) {
    writer.initializer(name, OnnxType::i8, {columns, rows}, static_cast<uint64_t>(rows * columns), [&model, name, rows,
        columns](const ByteSink& sink) {
      const std::vector<float> scales = row_scales(model, name, 0, rows);
      std::vector<int8_t> whole(static_cast<size_t>(rows * columns));
      for_row_pieces(rows, columns, [&](int64_t begin, int64_t count) {
        const std::vector<int8_t> integers = int8_rows(model, name, begin, count, scales.data() + begin);
        for (int64_t row = 0; row < count; ++row)
          for (int64_t c = 0; c < columns; ++c) whole[static_cast<size_t>(c * rows + begin + row)] = integers[static_cast<size_t>(row * columns + c)];
      });
      sink(whole.data(), whole.size());
    });
    writer.initializer(name + "_scale", OnnxType::f32, {rows}, static_cast<uint64_t>(rows) * 4, [&model, name, rows](const ByteSink& sink) {
      const std::vector<float> scales = row_scales(model, name, 0, rows);
      sink(scales.data(), scales.size() * sizeof(float));
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
      for_row_pieces(rows, columns, [&](int64_t begin, int64_t count) {
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

std::vector<float> OnnxMatrix::values(int64_t begin, int64_t count) const {
  const int64_t wide = columns_;
  if (form_ == OnnxForm::fp32) return float_rows(model_->weight(name_), begin, count);
  std::vector<float> values(static_cast<size_t>(count * wide));
  if (form_ == OnnxForm::fp16) {
    const std::vector<float> own = float_rows(model_->weight(name_), begin, count);
    for (size_t i = 0; i < values.size(); ++i) values[i] = fp16_to_fp32(fp32_to_fp16(own[i]));
    return values;
  }
  if (form_ == OnnxForm::int8) {
    const std::vector<float> scales = row_scales(*model_, name_, begin, count);
    const std::vector<int8_t> integers = int8_rows(*model_, name_, begin, count, scales.data());
    for (int64_t row = 0; row < count; ++row)
      for (int64_t c = 0; c < wide; ++c) {
        const auto at = static_cast<size_t>(row * wide + c);
        values[at] = static_cast<float>(integers[at]) * scales[static_cast<size_t>(row)];
      }
    return values;
  }
  const GgmlType type = block_type(form_);
  const int64_t filled = blocks_in(wide) * kBlock;
  std::vector<float> whole(static_cast<size_t>(count * filled));
  dequantize_rows(type, blocks_of_32(*model_, name_, type, begin, count).data(), whole.data(), count, filled);
  if (filled == wide) return whole;
  for (int64_t row = 0; row < count; ++row)
    std::memcpy(values.data() + row * wide, whole.data() + row * filled, static_cast<size_t>(wide) * sizeof(float));
  return values;
}

}  // namespace attar
