#include "export/gguf_rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/ggml_blocks.h"

namespace attar {
namespace {

constexpr int64_t kElementsAtATime = int64_t{1} << 22;

}  // namespace

std::optional<at::ScalarType> plain_type(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return at::kFloat;
    case GgmlType::f16: return at::kHalf;
    case GgmlType::bf16: return at::kBFloat16;
    default: return std::nullopt;
  }
}

GgufRows::GgufRows(const Checkpoint& model, const GgufMapping& mapping) : model_(&model), mapping_(&mapping) {
  for (const std::string& source : mapping.sources) {
    const auto found = model.weights.find(source);
    if (found == model.weights.end()) fail("tensor " + source, "to be in the model", "nothing");
    const at::Tensor& weight = found->second;
    if (weight.dim() != 1 && weight.dim() != 2) fail("tensor " + source, "one or two dimensions", attar::str(weight.sizes()));
    columns_ = weight.dim() == 2 ? weight.size(1) : 1;
    rows_ += weight.size(0);
    ends_.push_back(rows_);
    shape_ = weight.sizes().vec();
  }
  shape_[0] = rows_;
}

int64_t GgufRows::rows_at_a_time() const { return std::max<int64_t>(1, kElementsAtATime / columns_); }

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

/// Rows of the file from the rows of the parts: of blocks when `codes`, else of the weights as stored.
at::Tensor GgufRows::gather(bool codes, int64_t begin, int64_t count) const {
  std::vector<at::Tensor> pieces;
  for (size_t i = 0; i < ends_.size(); ++i) {
    const std::string& source = mapping_->sources[i];
    const int64_t first = i ? ends_[i - 1] : 0, from = std::max(begin, first) - first, to = std::min(begin + count, ends_[i]) - first;
    if (from >= to) continue;
    const at::Tensor whole = codes ? model_->codes.at(source).blocks : model_->weights.at(source).detach();
    if (mapping_->permute_heads == 0) {
      pieces.push_back(whole.narrow(0, from, to - from));
      continue;
    }
    const int64_t head = (ends_[i] - first) / mapping_->permute_heads;
    at::Tensor order = at::empty({to - from}, at::kLong);
    for (int64_t row = from; row < to; ++row) order.data_ptr<int64_t>()[row - from] = row / head * head + permuted_row(row % head, head);
    pieces.push_back(whole.index_select(0, order.to(whole.device())));
  }
  const at::Tensor joined = pieces.size() == 1 ? pieces[0] : at::cat(pieces);
  return joined.to(at::kCPU).contiguous();
}

at::Tensor GgufRows::bytes(GgmlType type, int64_t begin, int64_t count, const float* importance) const {
  if (code_type() == type) return gather(true, begin, count);
  const at::Tensor stored = gather(false, begin, count);
  const auto as_bytes = [](const at::Tensor& t) { return t.view({-1}).view(at::kByte); };
  if (!mapping_->add_one && plain_type(type) == stored.scalar_type()) return as_bytes(stored);
  at::Tensor values = stored.to(at::kFloat);
  if (mapping_->add_one) values = values + 1;
  if (type == GgmlType::f32) return as_bytes(values);
  at::Tensor out = at::empty({count, ggml_row_bytes(type, columns_)}, at::kByte);
  try {
    quantize_rows(type, values.const_data_ptr<float>(), out.data_ptr<uint8_t>(), count, columns_, importance);
  } catch (const Error& error) {
    explain(error, type, begin, values);
  }
  return out;
}

/// Says of a value that was refused where in the model it stands.
void GgufRows::explain(const Error& error, GgmlType type, int64_t begin, const at::Tensor& values) const {
  const float* data = values.const_data_ptr<float>();
  const int64_t count = values.numel();
  int64_t at = 0;
  while (at < count && std::isfinite(data[at])) ++at;
  if (at < count) {
    const int64_t row = begin + at / columns_;
    const size_t part = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), row) - ends_.begin());
    const int64_t first = part ? ends_[part - 1] : 0, rows = ends_[part] - first;
    int64_t own = row - first;
    if (mapping_->permute_heads > 0) {
      const int64_t head = rows / mapping_->permute_heads;
      own = own / head * head + permuted_row(own % head, head);
    }
    fail("tensor " + mapping_->sources[part], str("finite numbers to round to ", ggml_type_info(type).name),
         str(data[at], " at [", own, ", ", at % columns_, "]"), "the model is damaged");
  }
  std::vector<Fault> faults = error.faults();
  for (Fault& fault : faults) fault.what = "tensor " + mapping_->sources.front() + ": " + fault.what;
  throw Error(std::move(faults));
}

}  // namespace attar
