#pragma once
#include "data/task.h"
#include "decide/gates.h"
#include "decide/scores.h"
#include "eval/task_eval.h"
#include "plan/recipe.h"

namespace attar {

/// SHA-256 of prompts and right labels, in order.
std::string examples_hash(const std::vector<TaskExample>& examples);

/// What a model said of example `i`: shares of the labels where it has likelihoods, else how sure it was of what it wrote; the task's metrics beside
/// it unless they follow from the rest (classification).
ExampleScore scored_example(const TaskResult& result, size_t i);

/// Writes what a model said of each example, a line each, into its place below `folder` (decide/scores.h).
void record_scores(const fs::path& folder, const std::string& artifact, const std::string& model_sha256, const TaskResult& result,
                   const std::vector<TaskExample>& examples);

/// What a score file says of a task's answers: the right ones, those given, and every example's metrics.
TaskResult recorded_result(const Scores& scores, const std::string& kind);

/// Gates of a recipe, those of swept stages with the stage's name as family.
std::vector<Gate> recipe_gates(const Recipe& recipe);

/// Reads score files below `folder` when they are first asked for, and keeps them.
class KeptScores {
 public:
  explicit KeptScores(fs::path folder) : folder_(std::move(folder)) {}
  const Scores* operator()(const std::string& artifact, const std::string& task);

 private:
  fs::path folder_;
  std::map<std::pair<std::string, std::string>, std::optional<Scores>> read_;
};

}  // namespace attar
