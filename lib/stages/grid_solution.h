#pragma once
#include "quant/quantize.h"
#include "quant/type_plan.h"
#include "stages/stage.h"

namespace attar {

/// Refuses settings of a solution that contradict each other, before anything is read. `key`: where `method` was given ("method", "start").
void check_solution(const QuantConfig& config, const std::string& key, const std::string& method);
/// Whether the solution looks at calibration rows.
bool solution_reads_rows(const std::string& method);

/// Puts the model's weights on the plan's grids without training: round (ggml's), search, gptq or rounding. `rows`: read if solution_reads_rows().
/// What is worth saying goes to the log and the facts; finished layers are kept in the stage's work folder.
void solve_on_grid(StageRun& run, const QuantConfig& config, const std::string& method, Checkpoint& model, const TypePlan& plan,
                   const ImportanceMap& importance, const TokenRows& rows);

}  // namespace attar
