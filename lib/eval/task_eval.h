#pragma once
#include <cstdint>
#include <string>
#include <utility>
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

/// What a task came to, with everything it was computed from.
struct TaskResult {
  std::string name, kind = "classification", method = "likelihood", metric;
  std::vector<std::string> labels;               ///< labels; letters of choices; wrong, right; at the end "(none)" where texts were matched
  std::vector<int64_t> truth, predicted;         ///< per example, indices into labels
  std::vector<std::vector<double>> likelihoods;  ///< per example and label: log-likelihood of the answer and EOS, nats; empty where unknown
  std::vector<double> confidence;  ///< per example: share of the predicted label among all; of a written text its tokens' mean probability; of a
                                   ///< label that a server wrote the text's probability; empty where a server gives none
  std::vector<std::string> written;              ///< per example, where texts were written
  std::vector<std::pair<std::string, Measure>> measures;            ///< the task's metrics in the order of the report
  std::vector<std::pair<std::string, std::vector<double>>> values;  ///< of metrics that are means over the examples: each example's, the first 1 or 0
  Measure accuracy, macro_f1;                    ///< Wilson; bootstrap over examples
  Measure ece, ece_equal_mass, brier, label_nll; ///< 15 bins of equal width, of equal mass; squares summed over labels; -log share of the right label
  std::vector<ReliabilityBin> reliability;       ///< the 15 bins of equal width
  std::vector<std::vector<int64_t>> confusion;   ///< [truth][predicted]
  std::vector<double> f1;                        ///< per label; 0 where it never occurs and is never predicted
  std::vector<double> priors;  ///< per label: log of its share after prompts that say nothing, taken off likelihoods; empty: not done
  Json more = Json::object();                    ///< further details of the kind
  std::vector<std::string> notes;                ///< what a reader must know: metrics left out, answers not matched
  int64_t shortened = 0;                         ///< prompts cut at their start to fit the model's context

  std::vector<double> correct() const { return values.front().second; }  ///< 1 or 0 per example, for paired tests
  Json to_json() const;                          ///< {<metric>: {value, low, high, n}}, the metric that stands for quality first
  Json details() const;                          ///< for the report's charts and tables
};

struct TaskOptions {
  bool shorten = false;   ///< prompts that are too long for the model's context lose their beginning and are counted; else they are an Error
};

/// Log-likelihood of every answer after every prompt: the answers' tree is appended to each prompt with tree attention, so one forward pass
/// serves all labels. prompts: ids, none empty; answers: ids with EOS, none empty. -> [prompt][answer], nats, log-softmax in float64.
/// `batch_tokens`: positions a forward pass. Error if a prompt with the longest answer exceeds the model's context.
std::vector<std::vector<double>> answer_likelihoods(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts,
                                                    const std::vector<std::vector<int32_t>>& answers, int64_t batch_tokens = 4096);

/// What a model thinks of the labels when a prompt says nothing: per label the log of its mean share over task.content_free (Zhao et al. 2021,
/// arXiv 2102.09690, section 5). Taken off the likelihoods, such a prompt leaves all labels equal. `answers`: ids of each label's.
std::vector<double> content_free_priors(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task,
                                        const std::vector<std::vector<int32_t>>& answers);

/// Ids of every example's prompt.
std::vector<std::vector<int32_t>> prompts_of(const Tokenizer& tokenizer, const std::vector<TaskExample>& examples);
/// Sees to it that every prompt leaves room for `answer` more tokens in the model's context: TaskOptions::shorten; returns how many were cut.
/// Error in one sentence naming the first one's line and how many there are.
int64_t fit_prompts(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                    const std::vector<int64_t>& answer, const TaskOptions& options, std::vector<std::vector<int32_t>>& prompts);

/// Runs a task of any kind by its method (docs/evaluate.md says how each is judged). The task is complete (data/task.h).
/// Classification by likelihood: the predicted label is the one whose whole answer is likeliest (exact, not by first token); by generation: the one
/// that greedy writing among the labels' tokens ends with.
TaskResult evaluate_task(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                         const TaskOptions& options = {});

}  // namespace attar
