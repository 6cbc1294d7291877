#include "export/gguf_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "blocks/ggml_blocks.h"

namespace attar {
namespace {

constexpr int64_t kNumbersAtATime = int64_t{1} << 18;

}  // namespace

GgufRows::GgufRows(const StoredModel& model, const GgufMapping& mapping) : model_(&model), mapping_(&mapping) {
  int64_t rows = 0;
  for (const std::string& source : mapping.sources) {
    const StoredTensor& part = model.weight(source);
    if (part.shape.size() != 1 && part.shape.size() != 2) fail("tensor " + source, "one or two dimensions", shape_text(part.shape));
    parts_.push_back(&part);
    ends_.push_back(rows += part.rows());
    shape_ = part.shape;
  }
  shape_[0] = rows;
}

int64_t GgufRows::rows_at_a_time() const { return std::max<int64_t>(1, kNumbersAtATime / std::max<int64_t>(1, columns())); }

std::optional<GgmlType> GgufRows::code_type() const {
  std::optional<GgmlType> type;
  for (const std::string& source : mapping_->sources) {
    const auto found = model_->codes.find(source);
    // ONNX's int8 has no type in GGUF: its values are rows like any others.
    if (found == model_->codes.end() || found->second.type == GgmlType::i8 || (type && *type != found->second.type)) return std::nullopt;
    type = found->second.type;
  }
  return type;
}

template <class Take>
void GgufRows::for_runs(int64_t begin, int64_t count, const Take& take) const {
  for (size_t i = 0; i < ends_.size(); ++i) {
    const int64_t first = i ? ends_[i - 1] : 0, from = std::max(begin, first) - first, to = std::min(begin + count, ends_[i]) - first;
    if (from >= to) continue;
    if (mapping_->permute_heads == 0) {
      take(i, first + from, from, to - from);
      continue;
    }
    const int64_t head = (ends_[i] - first) / mapping_->permute_heads;
    for (int64_t row = from; row < to; ++row) take(i, first + row, row / head * head + permuted_row(row % head, head), int64_t{1});
  }
}

void GgufRows::values(int64_t begin, int64_t count, float* out) const {
  const int64_t wide = columns();
  for_runs(begin, count, [&](size_t part, int64_t row, int64_t own, int64_t rows) { parts_[part]->values(own, rows, out + (row - begin) * wide); });
  if (mapping_->add_one)
    for (int64_t i = 0; i < count * wide; ++i) out[i] += 1;
}

std::vector<uint8_t> GgufRows::bytes(GgmlType type, int64_t begin, int64_t count, const float* importance) const {
  const int64_t wide = columns(), width = ggml_row_bytes(type, wide);
  std::vector<uint8_t> out(static_cast<size_t>(count * width)), room;
  const bool codes = code_type() == type;
  const bool as_stored = !mapping_->add_one && std::all_of(parts_.begin(), parts_.end(), [&](const StoredTensor* part) {
    return part->type == type && !part->plus_one;
  });
  if (codes || as_stored) {
    for_runs(begin, count, [&](size_t part, int64_t row, int64_t own, int64_t rows) {
      const StoredTensor& from = codes ? *model_->code(mapping_->sources[part], type) : *parts_[part];
      std::memcpy(out.data() + (row - begin) * width, from.rows_together(own, rows, room), static_cast<size_t>(rows * width));
    });
    return out;
  }
  std::vector<float> numbers(static_cast<size_t>(count * wide));
  values(begin, count, numbers.data());
  if (type == GgmlType::f32) {
    std::memcpy(out.data(), numbers.data(), out.size());
    return out;
  }
  try {
    quantize_rows(type, numbers.data(), out.data(), count, wide, importance);
  } catch (const Error& error) {
    explain(error, type, begin, numbers);
  }
  return out;
}

/// Says of a value that was refused where in the model it stands.
void GgufRows::explain(const Error& error, GgmlType type, int64_t begin, const std::vector<float>& values) const {
  const auto refused = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (refused != values.end()) {
    const int64_t at = refused - values.begin();
    for_runs(begin + at / columns(), 1, [&](size_t part, int64_t, int64_t own, int64_t) {
      fail("tensor " + mapping_->sources[part], str("finite numbers to round to ", ggml_type_info(type).name),
           str(*refused, " at [", own, ", ", at % columns(), "]"), "the model is damaged");
    });
  }
  std::vector<Fault> faults = error.faults();
  for (Fault& fault : faults) fault.what = "tensor " + mapping_->sources.front() + ": " + fault.what;
  throw Error(std::move(faults));
}

}  // namespace attar
