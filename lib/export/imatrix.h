#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/files.h"

namespace attar {

/// An importance matrix: mean squares of the inputs of each matrix, by GGUF tensor name.
struct Imatrix {
  std::map<std::string, std::vector<float>> means;
  std::string file, dataset;  ///< the file's name without its folder
  int64_t chunks = 0;
  bool empty() const { return means.empty(); }
};

/// llama.cpp's importance matrix: its GGUF form (in_sum2 and counts per tensor) or the older binary one. Error if it is neither,
/// truncated, or holds values that are negative or not finite.
Imatrix read_imatrix(const fs::path& file);

}  // namespace attar
