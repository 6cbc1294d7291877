#include "decide/weights.h"

#include <algorithm>
#include <vector>

#include "base/hash.h"

namespace attar {

Weights weigh_files(const fs::path& path) {
  std::vector<fs::path> files;
  if (!fs::is_directory(path)) {
    files = {path};
  } else {
    for (const auto& entry : fs::directory_iterator(path)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_regular_file() &&
          (name.ends_with(".safetensors") || name.ends_with(".gguf") || name.ends_with(".onnx") || name.ends_with(".onnx.data")))
        if (name != "codes.safetensors" && name != "statistics.safetensors") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  }
  Weights out;
  Sha256 all;
  for (const fs::path& file : files) out.bytes += fs::file_size(file), all.add(sha256_file(file));
  out.sha256 = files.size() == 1 ? sha256_file(files[0]) : all.hex();
  return out;
}

}  // namespace attar
