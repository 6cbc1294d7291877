#pragma once
#include <map>
#include <memory>

#include "data/task.h"
#include "eval/positions.h"
#include "eval/task_eval.h"
#include "stages/stage.h"

namespace attar {

struct EvaluationInputs {
  std::optional<TaskConfig> task;   ///< complete (data/task.h)
  std::optional<fs::path> text, base;
  int64_t ctx = 512, stride = 0, text_tokens = 0, task_rows = 0;
  bool latency = true;
  RunningConfig running;            ///< where latency is measured
  bool shorten = false;             ///< task prompts that are too long lose their beginning; else the task is refused
  std::string kv_cache = "f32";     ///< f16, q8_0, q4_0: what such a cache costs is measured too
  std::string learned_score = "none"; ///< last, mean or a router.json: scores get a learned one too (stages/learned.h)
  MemorizationConfig memorization;  ///< rows 0: not measured; needs a task with training rows
  fs::path scores;                  ///< folder that takes the scores of each example (stages/scores.h) and what the inputs look like
                                    ///< (stages/drift.h); empty: none are kept
  fs::path work;                    ///< folder of what a stopped stage goes on from; empty: none
};

/// Measures one artifact after another against the same text, task and base; what stands in report.json under `artifacts`.
class Evaluation {
 public:
  explicit Evaluation(EvaluationInputs inputs);
  /// Everything of one artifact: bytes, parameters, perplexity, KL, agreement, task, latency, memory. A task that cannot be judged (its texts are
  /// too long) and a base of another tokenizer leave the rest: their sentences stand under "failed".
  Json measure(const fs::path& artifact, const std::string& label);
  /// The task's questions to a running server: {path, runtime, tasks, task_details, notes}. `kept`: its answers, so that a stopped run goes on
  /// (eval/runtime.h); empty: nowhere. With `config.of` an artifact measured before: {agreement} with its answers. Error if it answers with garbage.
  Json ask(const RuntimeConfig& config, const std::string& label, const fs::path& kept);
  /// Takes up an artifact that was measured before a stop, by what was kept of its answers, so that others are compared with it.
  void recall(const std::string& label);
  /// Paired comparison with another artifact measured before; null if there is none.
  Json compare(const std::string& label, const std::string& base) const;

 private:
  /// What needs the model in memory, which is free again when this returns.
  Json measured(const fs::path& path, const std::string& label);
  Json memorized(const Decoder& model, const Tokenizer& tokenizer) const;
  std::unique_ptr<ScoredPositions> positions(const Checkpoint& model, std::string& source);
  void keep_task(TaskResult result, const std::string& label, const std::string& sha256, Json& out);
  EvaluationInputs inputs_;
  std::optional<Checkpoint> base_;
  std::vector<TaskExample> examples_;
  std::map<std::string, TaskResult> results_;  ///< by label, for paired tests
};

}  // namespace attar
