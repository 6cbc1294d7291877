#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"
#include "formats/gguf.h"
#include "kernels/ggml_blocks.h"
#include "model/load_parts.h"
#include "spec/gguf_names.h"

namespace attar {
namespace {

/// Rows of `table` (any type, one row per row of the weight) put back into half-split order inside each head.
at::Tensor unpermuted(const at::Tensor& table, int64_t heads) {
  const int64_t rows = table.size(0), head = rows / heads;
  at::Tensor order = at::empty({rows}, at::kLong);
  int64_t* source = order.data_ptr<int64_t>();
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t row = 0; row < head; ++row) source[h * head + permuted_row(row, head)] = h * head + row;
  return table.index_select(0, order);
}

/// A plain type of a GGUF file as LibTorch's, or nothing for quantized ones.
std::optional<at::ScalarType> plain_gguf_type(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return at::kFloat;
    case GgmlType::f16: return at::kHalf;
    case GgmlType::bf16: return at::kBFloat16;
    case GgmlType::f64: return at::kDouble;
    default: return std::nullopt;
  }
}

/// Splits off the first rows of `rest`.
at::Tensor take_rows(at::Tensor& rest, int64_t rows) {
  const at::Tensor taken = rest.narrow(0, 0, rows);
  rest = rest.narrow(0, rows, rest.size(0) - rows);
  return taken;
}

/// Adds what `mapping` says of one tensor of the file to the checkpoint.
void take_gguf_tensor(Checkpoint& checkpoint, const std::shared_ptr<GgufFile>& file, const GgufTensor& tensor, const GgufMapping& mapping,
                      const std::map<std::string, std::vector<int64_t>>& shapes, const LoadOptions& options) {
  LoadOptions as_stored = options;
  as_stored.keep_dtype = true;
  as_stored.device = at::kCPU;
  const std::span<const uint8_t> bytes = file->bytes(tensor);
  at::Tensor values, blocks;
  if (const auto plain = plain_gguf_type(tensor.type)) {
    values = mapped_tensor(bytes, *plain, tensor.shape, as_stored, file);
  } else {
    if (!ggml_type_info(tensor.type).quantized) fail("tensor " + tensor.name, "numbers that can be weights", ggml_type_info(tensor.type).name);
    blocks = mapped_tensor(bytes, at::kByte, {tensor.rows(), ggml_row_bytes(tensor.type, tensor.columns())}, as_stored, file);
    values = at::empty(tensor.shape, at::kFloat);
    dequantize_rows(tensor.type, bytes.data(), values.data_ptr<float>(), tensor.rows(), tensor.columns());
  }
  const bool in_file = !blocks.defined() && mapping.permute_heads == 0 && !mapping.add_one;
  if (mapping.permute_heads > 0) {
    values = unpermuted(values, mapping.permute_heads);
    if (blocks.defined()) blocks = unpermuted(blocks, mapping.permute_heads);
  }
  if (mapping.add_one) values = values.to(at::kFloat) - 1;
  const bool keep_codes = blocks.defined() && (options.keep_dtype || options.dtype == at::kFloat);
  for (const std::string& name : mapping.sources) {
    const std::vector<int64_t>& shape = shapes.at(name);
    at::Tensor part = take_rows(values, shape[0]);
    // What still lies in the file is copied out unless it was asked for as stored.
    part = options.keep_dtype ? part.to(options.device) : part.to(options.device, options.dtype, /*non_blocking=*/false, /*copy=*/in_file);
    checkpoint.weights[name] = part.contiguous();
    if (keep_codes) checkpoint.codes[name] = {tensor.type, shape, take_rows(blocks, shape[0])};
  }
  if (!options.keep_dtype && !keep_codes) file->release(tensor);
}

}  // namespace

Checkpoint gguf_checkpoint(const fs::path& path, const LoadOptions& options) {
  const auto file = std::make_shared<GgufFile>(path);
  Checkpoint checkpoint;
  checkpoint.spec = spec_from_gguf(*file);
  checkpoint.license = file->metadata().text("general.license", "");
  checkpoint.base_model = file->metadata().text("general.base_model.0.name", "");
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& parameter : parameters_of(checkpoint.spec)) shapes[parameter.name] = parameter.shape;
  std::set<std::string> used{"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
  std::vector<Fault> faults;
  for (const GgufMapping& mapping : gguf_mapping(checkpoint.spec)) {
    const std::string what = path.string() + ": tensor " + mapping.gguf;
    used.insert(mapping.gguf);
    const GgufTensor* tensor = file->find(mapping.gguf);
    if (!tensor) {
      faults.push_back({what, "to be there", "nothing", ""});
      continue;
    }
    std::vector<int64_t> wanted = shapes.at(mapping.sources.front());
    for (size_t i = 1; i < mapping.sources.size(); ++i) wanted[0] += shapes.at(mapping.sources[i])[0];
    if (tensor->shape != wanted) {
      const auto text = [](const std::vector<int64_t>& shape) { return attar::str(at::IntArrayRef(shape)); };
      faults.push_back({what, "shape " + text(wanted), text(tensor->shape), ""});
      continue;
    }
    if (faults.empty()) take_gguf_tensor(checkpoint, file, *tensor, mapping, shapes, options);
  }
  for (const GgufTensor& tensor : file->tensors())
    if (!used.count(tensor.name) && faults.size() < 20)
      faults.push_back({path.string() + ": tensor " + tensor.name, "only tensors that " + checkpoint.spec.family + " has",
                        "one that nothing takes", ""});
  if (!faults.empty()) throw Error(std::move(faults));
  return checkpoint;
}

}  // namespace attar
