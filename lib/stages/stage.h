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
void run_synthesize(StageRun& run, const SynthesizeConfig& config);
void run_prune(StageRun& run, const PruneConfig& config);
void run_calibrate(StageRun& run, const CalibrateConfig& config);
void run_quantize(StageRun& run, const QuantConfig& config);
void run_export(StageRun& run, const ExportConfig& config);
void run_evaluate(StageRun& run, const EvaluateConfig& config);
void run_route(StageRun& run, const RouteConfig& config);

/// Runs the stage of this kind with its effective configuration (plan/recipe.h).
void run_stage(const std::string& kind, StageRun& run, const Json& configuration);

/// One data set of a stage: a file or folder, or the task's training rows.
struct DataSet {
  std::string name;
  fs::path path;
  const TaskConfig* task = nullptr;   ///< whose rows they are; null: a path that was given
  DataConfig config;                  ///< the data's, with the part's own keys on top
};
/// The parts of data.mix, or the one that data.path or the task names. Error if there is neither.
std::vector<DataSet> data_sets(const StageRun& run, const DataConfig& config);

/// Rows of a stage's data: what is learned from and what is held apart for evaluation during training. Depends on configuration, tokenizer, task and
/// data alone, not on the stage, so that a cache and its student see the same rows.
struct PreparedRows {
  TokenRows train, held;
};
PreparedRows prepare_rows(const StageRun& run, const DataConfig& config, const Tokenizer& tokenizer, int64_t context);

/// Loads a model for computing; Error when the tokenizer is missing and `tokenizer` asks for it.
Checkpoint load_model(const fs::path& artifact, bool need_tokenizer);
/// Error when the tokenizer is missing; `path`: where the model lies.
void check_tokenizer(const Checkpoint& model, const fs::path& path);
LossWeights loss_weights(const LossConfig& config, bool teacher);

}  // namespace attar
