#pragma once
#include "calibrate/layer_walk.h"
#include "quant/quantize.h"
#include "quant/type_plan.h"
#include "spec/configs.h"

namespace attar {

/// One tensor of the file (parts of a fused one together) under one type: bytes, and the mean KL of the model that has only this tensor rounded.
struct MeasuredType {
  GgmlType type;
  int64_t bytes = 0;
  double kl = 0;
};
struct MeasuredTensor {
  TypeGroup group;
  std::vector<MeasuredType> types;  ///< different ones, after fallbacks by width
};

/// Every tensor of the file with the types that it can have, nothing measured yet (KL 0): enough to know whether a budget can be kept.
std::vector<MeasuredTensor> type_candidates(const ModelSpec& spec, const std::vector<GgmlType>& types, bool embeddings);

struct SensitivityOptions {
  int64_t rows = 8, batch = 4;
  fs::path partial;  ///< what is measured so far is kept here (and a killed measurement goes on from it); empty: nowhere
};
/// KL(model || model with one tensor rounded) in nats, mean over the rows' positions, for every tensor and type; ranks share the rows. A tensor's
/// runs begin at its own layer. Rounded as quantize_weight does.
std::vector<MeasuredTensor> measure_sensitivity(const Checkpoint& model, const std::vector<GgmlType>& types, bool embeddings, const TokenRows& rows,
                                                const ImportanceMap& importance, Rounding rounding, const SensitivityOptions& options,
                                                ProcessGroup& group);

/// The types of least summed KL whose file's tensors have at most the budget's bytes (bits times all parameters / 8, if these are asked).
/// A budget below the smallest file is an Error that names it.
struct BudgetPlan {
  TypePlan plan;
  int64_t bytes = 0, limit = 0, granularity = 1;
  double kl = 0;                    ///< sum of the tensors' own
  std::vector<MeasuredType> chosen; ///< one a measured tensor
};
BudgetPlan plan_for_budget(const ModelSpec& spec, const std::vector<MeasuredTensor>& measured, const BudgetConfig& budget);

/// budget.bits or budget.bytes is set; Error if both are, or a type is none that can be quantized to.
bool has_budget(const BudgetConfig& budget);
std::vector<GgmlType> budget_types(const BudgetConfig& budget);

}  // namespace attar
