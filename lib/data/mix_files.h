#pragma once
#include <optional>
#include <vector>

#include "data/curate.h"

namespace attar {

/// One of the files or folders (.jsonl, .csv, each also .zst) of a written mixture.
struct MixFile {
  fs::path path;
  std::optional<double> weight;
};
struct MixFilesOptions {
  double temperature = 1;  ///< where no file has a weight: shares are rows^(1/this)
  int64_t rows = 0;        ///< to write; a file that ends before begins again. 0: until the first file has no more rows
  uint64_t seed = 0;
};
/// Rows of several files as JSON lines into `out`, at any point as often from each as its share says, give or take one row; each file's rows in their
/// own order. The seed decides which file comes first where several are due. Reads row by row: memory does not grow with the files.
/// Error for fewer than two files, weights as mix_shares (data/mix.h) refuses them, or a file without rows.
CurationResult mix_files(const std::vector<MixFile>& files, const fs::path& out, const MixFilesOptions& options);

}  // namespace attar
