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
  int64_t chunk_size = 0;     ///< tokens of a chunk; 0: unknown
  int64_t tokens = 0;         ///< that the means were taken over, alike for all matrices; write_imatrix needs it
  bool empty() const { return means.empty(); }
};

/// llama.cpp's importance matrix: its GGUF form (in_sum2 and counts per tensor) or the older binary one. Error if it is neither,
/// truncated, or holds values that are negative or not finite.
Imatrix read_imatrix(const fs::path& file);

/// Its GGUF form: per matrix the sums (rounded to fp32) and the count. Error if means are missing, negative or not finite.
void write_imatrix(const Imatrix& imatrix, const fs::path& file);

}  // namespace attar
