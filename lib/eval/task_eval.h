#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/task.h"
#include "eval/statistics.h"
#include "model/decoder.h"

namespace attar {

/// How sure and how right, in one bin of confidence.
struct ReliabilityBin {
  double low = 0, high = 0, confidence = 0, accuracy = 0;
  int64_t n = 0;
};

/// What a classification task came to, with everything it was computed from.
struct TaskResult {
  std::string name;
  std::vector<std::string> labels;
  std::vector<int64_t> truth, predicted;         ///< per example, indices into labels
  std::vector<std::vector<double>> likelihoods;  ///< per example and label: log-likelihood of the label's answer and EOS, nats
  std::vector<double> confidence;                ///< per example: share of the predicted label among all labels' likelihoods
  Measure accuracy, macro_f1;                    ///< Wilson; bootstrap over examples
  Measure ece, ece_equal_mass, brier, label_nll; ///< 15 bins of equal width, of equal mass; sum of squares over labels; -log share of the right label
  std::vector<ReliabilityBin> reliability;       ///< the 15 bins of equal width
  std::vector<std::vector<int64_t>> confusion;   ///< [truth][predicted]
  std::vector<double> f1;                        ///< per label; 0 where it never occurs and is never predicted
  std::vector<double> priors;                    ///< per label: log of its share after prompts that say nothing, taken off likelihoods; empty: not done
  int64_t shortened = 0;                         ///< prompts cut at their start to fit the model's context

  std::vector<double> correct() const;           ///< 1 or 0 per example, for paired tests
  Json to_json() const;                          ///< {accuracy: {value, low, high, n}, macro_f1: ..., ece, ece_equal_mass, brier, label_nll}
  Json details() const;                          ///< {labels, confusion, f1, reliability} for the report's charts
};

/// Fills in every number of a result from labels, truth and likelihoods.
void score_task(TaskResult& result);

/// Log-likelihood of every answer after every prompt: the answers' tree is appended to each prompt with tree attention, so one forward pass
/// serves all labels. prompts: ids, none empty; answers: ids with EOS, none empty. -> [prompt][answer], nats, log-softmax in float64.
/// `batch_tokens`: positions a forward pass. Error if a prompt with the longest answer exceeds the model's context.
std::vector<std::vector<double>> answer_likelihoods(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts,
                                                    const std::vector<std::vector<int32_t>>& answers, int64_t batch_tokens = 4096);

/// What a model thinks of the labels when a prompt says nothing: per label the log of its mean share over task.content_free (Zhao et al. 2021,
/// arXiv 2102.09690, section 5). Taken off the likelihoods, such a prompt leaves all labels equal. `answers`: ids of each label's.
std::vector<double> content_free_priors(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task,
                                        const std::vector<std::vector<int32_t>>& answers);

/// Runs a classification task: the predicted label is the one whose whole answer is likeliest (exact, not by first token).
/// task.labels complete (data/task.h). Prompts that are too long for the model's context lose their beginning, and are counted.
TaskResult evaluate_task(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples);

}  // namespace attar
