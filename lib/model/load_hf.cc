#include <ATen/ATen.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"
#include "base/log.h"
#include "model/load_parts.h"

namespace attar {
namespace {

constexpr size_t kMostFaults = 20;

/// Where a parameter lies in the folder: rows [begin, begin + count) of the stored tensor, count 0: all of it.
struct StoredPlace {
  std::string stored;
  int64_t begin = 0, count = 0;
};

/// Prefixes under which transformers keeps a language model, longest first, and what stands for them in a plain one.
constexpr std::pair<const char*, const char*> kPrefixes[] = {
    {"model.language_model.lm_head.", "lm_head."}, {"language_model.lm_head.", "lm_head."}, {"language_model.model.", "model."},
    {"model.language_model.", "model."},           {"transformer.model.", "model."}};

/// Buffers that older checkpoints carry and nothing needs; towers of multimodal models.
bool is_left_out(const std::string& name) {
  for (const char* end : {".rotary_emb.inv_freq", ".self_attn.masked_bias", ".self_attn.bias", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"})
    if (name.ends_with(end)) return true;
  for (const char* begin : {"vision_tower.", "model.vision_tower.", "multi_modal_projector.", "model.multi_modal_projector."})
    if (name.starts_with(begin)) return true;
  return false;
}

std::string plain_name(const std::string& stored, bool without_model) {
  for (const auto& [prefix, plain] : kPrefixes)
    if (stored.starts_with(prefix)) return plain + stored.substr(std::strlen(prefix));
  if (without_model && !stored.starts_with("lm_head.")) return "model." + stored;
  return stored;
}

/// The fused tensor that holds a parameter, and its rows there; "" if the parameter is never fused.
StoredPlace fused_place(const ModelSpec& spec, const std::string& name) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string own = layer_name(static_cast<int64_t>(i), "");
    if (!name.starts_with(own)) continue;
    const LayerSpec& layer = spec.layers[i];
    const std::string rest = name.substr(own.size());
    const int64_t q = layer.heads * spec.head_size, kv = layer.kv_heads * spec.head_size, F = layer.ffn;
    if (rest == "self_attn.q_proj.weight") return {own + "self_attn.qkv_proj.weight", 0, q};
    if (rest == "self_attn.k_proj.weight") return {own + "self_attn.qkv_proj.weight", q, kv};
    if (rest == "self_attn.v_proj.weight") return {own + "self_attn.qkv_proj.weight", q + kv, kv};
    if (rest == "mlp.gate_proj.weight") return {own + "mlp.gate_up_proj.weight", 0, F};
    if (rest == "mlp.up_proj.weight") return {own + "mlp.gate_up_proj.weight", F, F};
    return {};
  }
  return {};
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// Rows that the stored fused tensor must have in all.
int64_t fused_rows(const ModelSpec& spec, const std::string& name, const StoredPlace& place) {
  const size_t layer = static_cast<size_t>(std::stoll(name.substr(std::strlen("model.layers."))));
  const LayerSpec& facts = spec.layers[layer];
  return place.stored.ends_with("qkv_proj.weight") ? (facts.heads + 2 * facts.kv_heads) * spec.head_size : 2 * facts.ffn;
}

constexpr int64_t kCopiedAtATime = int64_t{1} << 22;  // bytes

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

at::ScalarType weight_type(Dtype dtype, const std::string& name) {
  switch (dtype) {
    case Dtype::f64: return at::kDouble;
    case Dtype::f32: return at::kFloat;
    case Dtype::f16: return at::kHalf;
    case Dtype::bf16: return at::kBFloat16;
    default: fail("tensor " + name, "F32, F16, BF16 or F64", dtype_name(dtype), "attar reads weights that are not quantized by other tools");
  }
}

Dtype stored_type(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return Dtype::f64;
    case at::kFloat: return Dtype::f32;
    case at::kHalf: return Dtype::f16;
    case at::kBFloat16: return Dtype::bf16;
    case at::kByte: return Dtype::u8;
    default: fail("dtype to save", "float32, float16 or bfloat16", c10::toString(type));
  }
}

at::Tensor mapped_tensor(std::span<const uint8_t> bytes, at::ScalarType stored, const std::vector<int64_t>& shape, const LoadOptions& options,
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

StateDict hf_weights(const fs::path& folder, const ModelSpec& spec, const LoadOptions& options) {
  const auto files = std::make_shared<SafetensorsFolder>(folder);
  const bool without_model = files->tensors().count("embed_tokens.weight") > 0;
  std::map<std::string, std::string> stored_of;
  std::vector<Fault> faults;
  for (const auto& [stored, entry] : files->tensors()) {
    if (is_left_out(stored)) continue;
    const std::string plain = plain_name(stored, without_model);
    if (spec.tied && plain == "lm_head.weight") continue;
    if (const auto [place, fresh] = stored_of.emplace(plain, stored); !fresh)
      faults.push_back({"tensor " + stored, "one tensor for " + plain, "also " + place->second, ""});
  }

  StateDict weights;
  std::set<std::string> used;
  for (const ParameterInfo& parameter : parameters_of(spec)) {
    if (faults.size() >= kMostFaults) break;
    StoredPlace place{parameter.name};
    auto found = stored_of.find(parameter.name);
    std::vector<int64_t> wanted = parameter.shape;
    if (found == stored_of.end()) {
      if (const StoredPlace fused = fused_place(spec, parameter.name); !fused.stored.empty() && stored_of.count(fused.stored)) {
        place = fused;
        found = stored_of.find(fused.stored);
        wanted[0] = fused_rows(spec, parameter.name, fused);
      }
    }
    if (found == stored_of.end()) {
      faults.push_back({folder.string() + ": tensor " + parameter.name, "to be there", "nothing", ""});
      continue;
    }
    used.insert(found->first);
    const TensorEntry& entry = files->tensors().at(found->second);
    if (entry.shape != wanted) {
      faults.push_back({folder.string() + ": tensor " + found->second, "shape " + shape_text(wanted) + " (config.json)",
                        shape_text(entry.shape), ""});
      continue;
    }
    const at::ScalarType type = weight_type(entry.dtype, found->second);
    std::span<const uint8_t> bytes = files->bytes(found->second);
    if (place.count) {
      const size_t row = bytes.size() / static_cast<size_t>(std::max<int64_t>(1, wanted[0]));
      bytes = bytes.subspan(static_cast<size_t>(place.begin) * row, static_cast<size_t>(place.count) * row);
    }
    weights[parameter.name] = mapped_tensor(bytes, type, parameter.shape, options, files);
    if (!options.keep_dtype) files->release(found->second);
  }
  for (const auto& [plain, stored] : stored_of)
    if (!used.count(plain) && faults.size() < kMostFaults)
      faults.push_back({folder.string() + ": tensor " + stored, "only tensors that " + spec.family + " has", "one that nothing takes", ""});
  if (!faults.empty()) throw Error(std::move(faults));
  return weights;
}

std::map<std::string, QuantizedTensor> hf_codes(const fs::path& folder, const ModelSpec& spec) {
  std::map<std::string, QuantizedTensor> codes;
  const fs::path place = folder / "codes.safetensors";
  if (!fs::exists(place)) return codes;
  const auto file = std::make_shared<SafetensorsFile>(place);
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& parameter : parameters_of(spec)) shapes[parameter.name] = parameter.shape;
  LoadOptions as_stored;
  as_stored.keep_dtype = true;
  const auto taken = [&](const std::string& name, Dtype dtype, at::ScalarType type, const std::vector<int64_t>& wanted) {
    const auto found = file->tensors().find(name);
    const bool fits = found != file->tensors().end() && found->second.dtype == dtype && found->second.shape == wanted;
    if (!fits)
      fail(place.string() + ": tensor " + name, str(dtype_name(dtype), " ", shape_text(wanted)),
           found == file->tensors().end() ? "nothing" : str(dtype_name(found->second.dtype), " ", shape_text(found->second.shape)));
    return mapped_tensor(file->bytes(name), type, wanted, as_stored, file);
  };
  for (const auto& [name, entry] : file->tensors()) {
    if (name.ends_with(".scales") && file->tensors().count(name.substr(0, name.size() - 7))) continue;  // read with the integers they belong to
    const std::string what = place.string() + ": tensor " + name;
    const auto shape = shapes.find(name);
    if (shape == shapes.end() || shape->second.size() != 2) fail(what, "a matrix of the model", "none of that name");
    const auto type_name = file->metadata().find(name);
    if (type_name == file->metadata().end()) fail(what, "its ggml type in the metadata", "nothing");
    const GgmlType type = ggml_type_named(type_name->second);
    const std::vector<int64_t> wanted{shape->second[0], ggml_row_bytes(type, shape->second[1])};
    const bool rows = type == GgmlType::i8;
    codes[name] = {type, shape->second, taken(name, rows ? Dtype::i8 : Dtype::u8, at::kByte, wanted)};
    if (rows) codes[name].scales = taken(name + ".scales", Dtype::f32, at::kFloat, {wanted[0]});
  }
  return codes;
}

}  // namespace attar
