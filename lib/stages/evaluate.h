#pragma once
#include <map>
#include <memory>

#include "data/task.h"
#include "eval/positions.h"
#include "stages/stage.h"

namespace attar {

struct EvaluationInputs {
  std::optional<TaskConfig> task;   ///< complete (data/task.h)
  std::optional<fs::path> text, base;
  int64_t ctx = 512, stride = 0, text_tokens = 0, task_rows = 0;
  bool latency = true;
  std::string kv_cache = "f32";     ///< f16, q8_0, q4_0: what such a cache costs is measured too
  MemorizationConfig memorization;  ///< rows 0: not measured; needs a task with training rows
  fs::path scores;                  ///< folder that takes the scores of each example (stages/scores.h) and what the inputs look like
                                    ///< (stages/drift.h); empty: none are kept
};

/// Measures one artifact after another against the same text, task and base; what stands in report.json under `artifacts`.
class Evaluation {
 public:
  explicit Evaluation(EvaluationInputs inputs);
  /// Everything of one artifact: bytes, parameters, perplexity, KL, agreement, task, latency, memory.
  Json measure(const fs::path& artifact, const std::string& label);
  /// Paired comparison with another artifact measured before; null if there is none.
  Json compare(const std::string& label, const std::string& base) const;

 private:
  Json memorized(const Decoder& model, const Tokenizer& tokenizer) const;
  std::unique_ptr<ScoredPositions> positions(const Checkpoint& model, std::string& source);
  EvaluationInputs inputs_;
  std::optional<Checkpoint> base_;
  std::vector<TaskExample> examples_;
  std::map<std::string, std::vector<double>> correct_;  ///< per example 1 or 0, for paired tests
};

}  // namespace attar
