#include "model/checkpoint.h"

#include <ATen/ATen.h>
#include <sys/mman.h>

#include <cstring>

#include "base/check.h"
#include "base/hash.h"
#include "base/json.h"
#include "model/tensors.h"

namespace attar {
namespace {

constexpr int64_t kCopiedAtATime = int64_t{1} << 22;  // bytes

std::optional<at::ScalarType> plain_type(GgmlType type) {
  switch (type) {
    case GgmlType::f64: return at::kDouble;
    case GgmlType::f32: return at::kFloat;
    case GgmlType::f16: return at::kHalf;
    case GgmlType::bf16: return at::kBFloat16;
    default: return std::nullopt;
  }
}

GgmlType type_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return GgmlType::f64;
    case at::kFloat: return GgmlType::f32;
    case at::kHalf: return GgmlType::f16;
    case at::kBFloat16: return GgmlType::bf16;
    default: fail("weights to write", "float32, float16, bfloat16 or float64", c10::toString(type));
  }
}

/// A tensor of its own with these bytes, copied by all threads.
at::Tensor copy_of_bytes(std::span<const uint8_t> bytes, const std::vector<int64_t>& shape, at::ScalarType type) {
  const at::Tensor copy = room_for(shape, type);
  auto* to = static_cast<uint8_t*>(copy.data_ptr());
  const auto size = static_cast<int64_t>(bytes.size());
#pragma omp parallel for schedule(static) if (size > kCopiedAtATime)
  for (int64_t at = 0; at < size; at += kCopiedAtATime)
    std::memcpy(to + at, bytes.data() + at, static_cast<size_t>(std::min(kCopiedAtATime, size - at)));
  return copy;
}

/// Bytes that lie together as a tensor under `options`. With keep_dtype on the CPU nothing is copied: the tensor lies where the bytes do, which
/// `owner` keeps, and must not be written to; else it has memory of its own.
at::Tensor tensor_of_bytes(std::span<const uint8_t> bytes, at::ScalarType stored, const std::vector<int64_t>& shape, const LoadOptions& options,
                           std::shared_ptr<const void> owner) {
  const auto type = at::TensorOptions(stored);
  if (bytes.empty()) return at::empty(shape, type).to(options.device, options.keep_dtype ? stored : options.dtype);
  void* data = const_cast<uint8_t*>(bytes.data());
  const bool aligned = reinterpret_cast<uintptr_t>(data) % c10::elementSize(stored) == 0;
  // safetensors promises no alignment: such a tensor is copied byte by byte first.
  if (!aligned) return copy_of_bytes(bytes, shape, stored).to(options.device, options.keep_dtype ? stored : options.dtype);
  if (!options.keep_dtype && options.device.is_cpu() && options.dtype == stored) return copy_of_bytes(bytes, shape, stored);
  const at::Tensor view = at::from_blob(data, shape, [owner](void*) {}, type);
  if (options.keep_dtype) return view.to(options.device);
  if (options.device.is_cpu()) return room_for(shape, options.dtype).copy_(view);
  return view.to(options.device, options.dtype, /*non_blocking=*/false, /*copy=*/true);
}

at::Tensor weight_of(const StoredTensor& stored, const LoadOptions& options) {
  const auto type = plain_type(stored.type);
  if (type && stored.plain()) return tensor_of_bytes(stored.bytes, *type, stored.shape, options, stored.owner);
  if (type && !stored.plus_one) {
    at::Tensor rows = at::empty(stored.shape, *type);
    const int64_t width = stored.row_bytes();
    for (int64_t row = 0; row < stored.rows(); ++row)
      std::memcpy(static_cast<uint8_t*>(rows.data_ptr()) + row * width, stored.row(row), static_cast<size_t>(width));
    return rows.to(options.device, options.keep_dtype ? *type : options.dtype);
  }
  at::Tensor values = room_for(stored.shape, at::kFloat);
  for_row_pieces(stored.rows(), stored.columns(), [&](int64_t begin, int64_t count) {
    stored.values(begin, count, values.data_ptr<float>() + begin * stored.columns());
  });
  return values.to(options.device, options.keep_dtype ? at::kFloat : options.dtype);
}

QuantizedTensor code_of(const StoredTensor& stored) {
  LoadOptions as_stored;
  as_stored.keep_dtype = true;
  QuantizedTensor code{stored.type, stored.shape, {}};
  const std::vector<int64_t> shape{stored.rows(), stored.row_bytes()};
  if (stored.permuted_heads == 0) {
    code.blocks = tensor_of_bytes(stored.bytes, at::kByte, shape, as_stored, stored.owner);
  } else {
    code.blocks = at::empty(shape, at::kByte);
    for (int64_t row = 0; row < shape[0]; ++row)
      std::memcpy(code.blocks.data_ptr<uint8_t>() + row * shape[1], stored.row(row), static_cast<size_t>(shape[1]));
  }
  if (stored.type == GgmlType::i8) code.scales = tensor_of_bytes(stored.scales, at::kFloat, {shape[0]}, as_stored, stored.owner);
  return code;
}

/// The tensor as a stored one lies there, on the CPU; the result keeps it.
StoredTensor view_of(const at::Tensor& tensor, GgmlType type, const std::vector<int64_t>& shape) {
  const auto kept = std::make_shared<const at::Tensor>(tensor.detach().to(at::kCPU).contiguous());
  StoredTensor stored;
  stored.type = type;
  stored.shape = shape;
  stored.bytes = {static_cast<const uint8_t*>(kept->const_data_ptr()), kept->nbytes()};
  stored.owner = kept;
  return stored;
}

}  // namespace

at::Tensor room_for(const std::vector<int64_t>& shape, at::ScalarType type) {
  constexpr uintptr_t kPage = 4096;
  constexpr size_t kLargePage = size_t{1} << 21;
  at::Tensor room = at::empty(shape, at::TensorOptions(type));
#ifdef MADV_HUGEPAGE
  if (room.nbytes() >= kLargePage) {
    const auto data = reinterpret_cast<uintptr_t>(room.data_ptr());
    const uintptr_t begin = (data + kPage - 1) / kPage * kPage, end = (data + room.nbytes()) / kPage * kPage;
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a wish: whether it is granted changes no value
  }
#endif
  return room;
}

Checkpoint load_checkpoint(const fs::path& path, const LoadOptions& options) {
  StoredModel stored = read_stored(path, options.tokenizer);
  Checkpoint checkpoint;
  // Values rounded to another type are no longer those of the codes.
  const bool keep_codes = options.keep_dtype || options.dtype == at::kFloat;
  for (const auto& [name, weight] : stored.weights) {
    checkpoint.weights[name] = weight_of(weight, options);
    const auto code = stored.codes.find(name);
    if (keep_codes && code != stored.codes.end()) checkpoint.codes[name] = code_of(code->second);
    if (!options.keep_dtype && weight.release) weight.release();
  }
  checkpoint.spec = std::move(stored.spec);
  checkpoint.tokenizer = std::move(stored.tokenizer);
  checkpoint.license = std::move(stored.license);
  checkpoint.base_model = std::move(stored.base_model);
  return checkpoint;
}

StoredModel stored_view(const Checkpoint& checkpoint) {
  StoredModel stored;
  stored.spec = checkpoint.spec;
  stored.tokenizer = checkpoint.tokenizer;
  stored.license = checkpoint.license;
  stored.base_model = checkpoint.base_model;
  for (const auto& [name, weight] : checkpoint.weights) stored.weights[name] = view_of(weight, type_of(weight.scalar_type()), weight.sizes().vec());
  for (const auto& [name, code] : checkpoint.codes) {
    StoredTensor& own = stored.codes[name] = view_of(code.blocks, code.type, code.shape);
    if (code.type != GgmlType::i8) continue;
    const StoredTensor scales = view_of(code.scales, GgmlType::f32, {code.shape[0]});
    own.scales = scales.bytes;
    own.owner = std::make_shared<const std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>>(own.owner, scales.owner);
  }
  return stored;
}

void save_checkpoint(const Checkpoint& checkpoint, const fs::path& folder, at::ScalarType dtype, int64_t shard_bytes) {
  write_hf(stored_view(checkpoint), folder, type_of(dtype), shard_bytes);
}

std::string checkpoint_fingerprint(const Checkpoint& checkpoint) {
  Sha256 hash;
  hash.add(to_line(config_from_spec(checkpoint.spec, "float32")));
  for (const auto& [name, tensor] : checkpoint.weights) {
    hash.add(name);
    hash.add(attar::str(tensor.sizes()));
    // The same values give the same hash however they are stored.
    const at::Tensor values = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
    hash.add(values.const_data_ptr(), static_cast<size_t>(values.numel()) * sizeof(float));
  }
  return hash.hex();
}

}  // namespace attar
