#pragma once
#include <string>

#include "base/files.h"

namespace attar {

/// Bytes of the files that hold a model's weights, and their hash: the file's own where it is one, else that of all files' hashes in order of their
/// names.
struct Weights {
  uint64_t bytes = 0;
  std::string sha256;
};
/// `path`: a file, or a folder with *.safetensors, *.gguf, *.onnx (codes and statistics beside the weights are left out).
Weights weigh_files(const fs::path& path);

}  // namespace attar
