#include "train/snapshot.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "formats/safetensors.h"

namespace attar {

void write_snapshot(const fs::path& file, const Snapshot& snapshot) {
  std::vector<SafetensorsWriter::Declared> declared;
  for (const auto& [name, tensor] : snapshot.tensors) {
    const Dtype dtype = tensor.scalar_type() == at::kLong ? Dtype::i64 : Dtype::f32;
    declared.push_back({name, dtype, tensor.sizes().vec()});
  }
  SafetensorsWriter writer(file, declared, {{"state", to_line(snapshot.state)}});
  for (const auto& [name, tensor] : snapshot.tensors) {
    const at::Tensor flat = tensor.detach().to(at::kCPU).to(tensor.scalar_type() == at::kLong ? at::kLong : at::kFloat).contiguous();
    writer.write(flat.data_ptr(), static_cast<size_t>(flat.nbytes()));
  }
  writer.commit();
}

bool read_snapshot(const fs::path& file, const std::string& fingerprint, Snapshot& snapshot) {
  if (!fs::exists(file)) return false;
  const SafetensorsFile reader(file);
  const auto state = reader.metadata().find("state");
  check(state != reader.metadata().end(), file.string(), "a training's snapshot", "no state in its metadata", "remove the file to start again");
  snapshot.state = parse_json(state->second, file.string());
  if (get<std::string>(snapshot.state, "fingerprint", file.string()) != fingerprint) {
    log_warn(file.string() + " belongs to another configuration or other data; training starts from its first step");
    return false;
  }
  for (const auto& [name, entry] : reader.tensors()) {
    at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype == Dtype::i64 ? at::kLong : at::kFloat));
    const auto bytes = reader.bytes(name);
    check(bytes.size() == static_cast<size_t>(tensor.nbytes()), file.string() + ": tensor '" + name + "'", "float32 or int64",
          dtype_name(entry.dtype));
    std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    snapshot.tensors[name] = tensor;
  }
  return true;
}

}  // namespace attar
