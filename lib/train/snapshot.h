#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// Everything a training needs to go on, in one safetensors file: whole or absent.
struct Snapshot {
  std::map<std::string, at::Tensor> tensors;  ///< float32 or int64, copied to the CPU
  Json state;
};
void write_snapshot(const fs::path& file, const Snapshot& snapshot);
/// False if there is none, or if its state's "fingerprint" is another's (a warning says so).
bool read_snapshot(const fs::path& file, const std::string& fingerprint, Snapshot& snapshot);

}  // namespace attar
