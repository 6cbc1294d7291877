#pragma once
#include <functional>

#include "data/source.h"
#include "dist/process_group.h"
#include "stages/stage.h"

namespace attar {

/// The teacher's mean loss on each of the rows [first, end).
using RowLosses = std::function<std::vector<double>(int64_t first, int64_t end)>;

/// Batches of a training, and what else than the rows decides them.
struct RowOrder {
  std::unique_ptr<Source> source;
  std::string fingerprint;
};

/// Rows in the order that data.mix, data.filter and data.curriculum ask for; a plain RowSource where they ask for nothing. `losses` is called where
/// the teacher's loss is needed, with a share of the rows on each rank, and what it gave is kept in the work folder: a run that goes on does not ask
/// again. Empty: there is no teacher, and to need its loss is an Error. Shares of parts and what was filtered go into run.facts. `rows` must live
/// as long as the source.
RowOrder row_order(StageRun& run, const TokenRows& rows, const DataConfig& data, const TrainConfig& train, ProcessGroup& group,
                   const RowLosses& losses);

}  // namespace attar
