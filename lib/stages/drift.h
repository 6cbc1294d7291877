#pragma once
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "data/task.h"

namespace attar {

/// Writes what a task's held-out inputs look like to a tokenizer, with the task itself, into its place below `folder`:
/// drift/<task>/<first 16 digits of the tokenizer's fingerprint>.json. Does nothing where that file is there already.
void record_reference(const fs::path& folder, const TaskConfig& task, const std::vector<TaskExample>& examples, const Tokenizer& tokenizer);

struct DriftRequest {
  fs::path reference;           ///< folder of an evaluate stage, or one that `attar eval --scores` wrote
  std::string artifact;         ///< whose kept scores are held against
  fs::path model;               ///< where it lies; empty: the path in the reference's report.json
  fs::path data;                ///< new rows; labels are used where a row has one
  fs::path task;                ///< task file with another prompt or other fields; empty: the one that was kept
  double level = 0.01, threshold = 0.1;
};
/// New inputs of a task of any kind against the reference (decide/drift.h): lengths, words, the model's confidence, and the task's metrics where 20
/// rows or more have labels (of an extraction whether it is JSON by the schema for every row).
/// -> drift_json and {artifact, task, rows, labelled}. Error if the model is not the one whose scores were kept.
Json measure_drift(const DriftRequest& request);

}  // namespace attar
