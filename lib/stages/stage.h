#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <optional>

#include "base/files.h"
#include "data/rows.h"
#include "kernels/linear_loss.h"
#include "model/decoder.h"
#include "plan/recipe.h"

namespace attar {

/// One stage at work: where its inputs lie, where its result and its resumable state go.
struct StageRun {
  std::string id, label;
  uint64_t seed = 0;
  std::string key;                          ///< of the stage; ties snapshots to what they belong to
  std::optional<TaskConfig> task;
  std::map<std::string, fs::path> inputs;   ///< reference key -> stage folder, checkpoint, cache or file
  std::map<std::string, std::string> names; ///< reference key -> what the recipe calls it
  fs::path base;                            ///< relative paths of the configuration are tried here too
  fs::path out;                             ///< the result, under a temporary name until it is whole
  fs::path work;                            ///< snapshots and shards; kept until the result is in place
  fs::path run_folder;                      ///< of the whole recipe; empty for a tool run alone
  at::Device device = at::kCPU;
  std::string license, base_model;
  Json facts = Json::object();              ///< what the stage measured, for the manifest
  const Recipe* recipe = nullptr;           ///< for the report

  const fs::path* input(const std::string& key) const;
  uint64_t seed_of(const std::string& purpose) const;  ///< independent per stage and purpose
};

void run_train_tokenizer(StageRun& run, const TrainTokenizerConfig& config);
void run_distill(StageRun& run, const DistillConfig& config);
void run_capture(StageRun& run, const CaptureConfig& config);
void run_prune(StageRun& run, const PruneConfig& config);
void run_quantize(StageRun& run, const QuantConfig& config);
void run_export(StageRun& run, const ExportConfig& config);
void run_evaluate(StageRun& run, const EvaluateConfig& config);

/// Runs the stage of this kind with its effective configuration (plan/recipe.h).
void run_stage(const std::string& kind, StageRun& run, const Json& configuration);

/// Rows of a stage's data: what is learned from and what is held apart for evaluation during training. Depends on configuration, tokenizer, task and
/// data alone, not on the stage, so that a cache and its student see the same rows.
struct PreparedRows {
  TokenRows train, held;
};
PreparedRows prepare_rows(const StageRun& run, const DataConfig& config, const Tokenizer& tokenizer, int64_t context);

/// Where the model of an artifact lies: an export's file, else the folder itself.
fs::path model_path(const fs::path& artifact);
/// Loads a model for computing; Error when the tokenizer is missing and `tokenizer` asks for it.
Checkpoint load_model(const fs::path& artifact, bool need_tokenizer);
LossWeights loss_weights(const LossConfig& config, bool teacher);

}  // namespace attar
