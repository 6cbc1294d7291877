#pragma once
#include "eval/task_eval.h"

namespace attar {

constexpr const char* kNoLabel = "(none)";  ///< what a text that gives none of the labels counts as

/// Fills in every number of a classification from labels, truth and likelihoods. Where `predicted` is there already (greedy writing) it stands;
/// without likelihoods only accuracy, macro-F1 and the confusion matrix are known. One class alone has no macro-F1: left out, with a note.
void score_classes(TaskResult& result);

/// How far `result.confidence` can be taken at its word, where it is known: ece and ece_equal_mass over 15 bins, and answer_brier, the mean of
/// (confidence - right)^2 of the answers given. `right`: 1 or 0 per example.
void score_confidence(TaskResult& result, const std::vector<double>& right);

/// Accuracy, raw and by the answers' lengths in characters (the sum of log-probabilities over the length, as lm-evaluation-harness's acc_norm),
/// from `likelihoods` of each example's choices; calibration as score_confidence gives it.
void score_choices(const std::vector<TaskExample>& examples, TaskResult& result);

/// Judges `result.written`, a text for each example, by the task's kind: matched to labels or choices, word by word, or field by field.
void score_written(const TaskConfig& task, const std::vector<TaskExample>& examples, TaskResult& result);

/// An extraction's answers from texts that should be JSON; fills in what score_written does for kind extraction.
void score_extraction(const TaskConfig& task, const std::vector<TaskExample>& examples, TaskResult& result);

/// A metric of ones and zeros with Wilson's interval, or of other values with a bootstrap's; it goes into measures and values.
void add_share(TaskResult& result, const std::string& metric, std::vector<double> values);
void add_mean(TaskResult& result, const std::string& metric, std::vector<double> values);

}  // namespace attar
