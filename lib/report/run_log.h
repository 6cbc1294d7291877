#pragma once
#include <cstdint>
#include <vector>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// One JSON object a line: what a stage recorded while it ran (losses, rates, notes). Reports and charts read it.
class RunLog {
 public:
  /// Opens for appending; lines whose "step" is `from_step` or later are dropped first (a resumed run writes them again).
  explicit RunLog(fs::path file, int64_t from_step = 0);
  void write(const Json& line);

 private:
  fs::path file_;
};

/// Every line of a log; a torn last line is left out. Empty if the file is missing.
std::vector<Json> read_run_log(const fs::path& file);

}  // namespace attar
