#include "calibrate/kept_layers.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/check.h"
#include "base/hash.h"
#include "base/signals.h"
#include "formats/safetensors.h"

namespace attar {
namespace {

constexpr const char* kLayerKind = "attar finished layer";
constexpr std::pair<Dtype, at::ScalarType> kLayerTypes[] = {{Dtype::f32, at::kFloat},
                                                            {Dtype::f16, at::kHalf},
                                                            {Dtype::bf16, at::kBFloat16},
                                                            {Dtype::u8, at::kByte},
                                                            {Dtype::boolean, at::kBool}};

Dtype layer_dtype(at::ScalarType type) {
  for (const auto& [stored, held] : kLayerTypes)
    if (held == type) return stored;
  fail("a tensor of a finished layer", "float32, float16, bfloat16, uint8 or bool", c10::toString(type));
}

at::Tensor layer_tensor(const TensorEntry& entry, std::span<const uint8_t> bytes, const std::string& where) {
  for (const auto& [stored, held] : kLayerTypes) {
    if (stored != entry.dtype) continue;
    at::Tensor out = at::empty(entry.shape, held);
    std::memcpy(out.data_ptr(), bytes.data(), bytes.size());
    return out;
  }
  fail(where, "F32, F16, BF16, U8 or BOOL", dtype_name(entry.dtype), "delete the file");
}

}  // namespace

KeptLayers::KeptLayers(fs::path folder, const std::string& what, ProcessGroup& group)
    : folder_(std::move(folder)), fingerprint_(sha256(str(what, " ranks ", group.size()))), group_(&group) {}

fs::path KeptLayers::file(int64_t layer) const { return folder_ / str("layer-", layer, ".safetensors"); }

std::optional<KeptLayers::Layer> KeptLayers::read(int64_t layer) const {
  if (folder_.empty() || !fs::exists(file(layer))) return {};
  const SafetensorsFile stored(file(layer));
  const auto said = [&](const char* key) {
    const auto found = stored.metadata().find(key);
    return found == stored.metadata().end() ? std::string() : found->second;
  };
  if (said("kind") != kLayerKind || said("fingerprint") != fingerprint_) return {};
  Layer out;
  out.facts = parse_json(said("facts"), stored.path().string());
  for (const auto& [name, entry] : stored.tensors())
    out.tensors[name] = layer_tensor(entry, stored.bytes(name), stored.path().string() + ": '" + name + "'");
  return out;
}

void KeptLayers::write(int64_t layer, const Layer& made) const {
  if (folder_.empty() || group_->rank() > 0) return;
  make_folder(folder_);
  std::vector<SafetensorsWriter::Declared> declared;
  for (const auto& [name, tensor] : made.tensors) declared.push_back({name, layer_dtype(tensor.scalar_type()), tensor.sizes().vec()});
  SafetensorsWriter writer(file(layer), std::move(declared), {{"kind", kLayerKind}, {"fingerprint", fingerprint_}, {"facts", to_line(made.facts)}});
  for (const auto& [name, tensor] : made.tensors) {
    const at::Tensor dense = tensor.to(at::kCPU).contiguous();
    writer.write(dense.const_data_ptr(), static_cast<size_t>(dense.nbytes()));
  }
  writer.commit();
}

void KeptLayers::stop_if_asked() const {
  at::Tensor signal = at::full({1}, stop_signal(), at::kLong);
  // Two ranks' signals would add up to a third: the loudest alone counts.
  if (group_->size() > 1) {
    at::Tensor all = at::zeros({group_->size()}, at::kLong);
    group_->all_gather(all, signal);
    signal = all.max().reshape({1});
  }
  if (const int64_t number = signal.item<int64_t>(); number != 0) throw Stopped{static_cast<int>(number)};
}

}  // namespace attar
