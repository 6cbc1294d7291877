#pragma once
#include "report/run_log.h"

namespace attar {

/// What a training records: log.jsonl, a line a step, and beside it TensorBoard's event file with the same numbers (formats/event_file.h). The events
/// are the log in another form: a run that goes on makes them anew from the lines it keeps, so no step stands in them twice.
class TrainLog {
 public:
  /// Lines of `from_step` and later are dropped first.
  TrainLog(const fs::path& folder, int64_t from_step);
  /// `line` has "step"; "time" (seconds since 1970) is added.
  void write(Json line);

 private:
  RunLog log_;
  fs::path events_;
};

}  // namespace attar
