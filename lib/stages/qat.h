#pragma once
#include "prune/masks.h"
#include "quant/quantize.h"
#include "quant/type_plan.h"
#include "stages/stage.h"

namespace attar {

/// Refuses settings of quantization-aware training that contradict each other, before anything is read.
void check_qat(const QuantConfig& config);

/// Fine-tunes the model on the plan's grids and writes its codes. `rows`: calibration rows of `start`, where it reads some.
void train_on_grid(StageRun& run, const QuantConfig& config, Checkpoint& model, const TypePlan& plan, const ImportanceMap& importance,
                   const std::shared_ptr<const Masks>& masks, const TokenRows& rows);

}  // namespace attar
