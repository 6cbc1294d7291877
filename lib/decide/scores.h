#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// What one model said of one example of a task.
struct ExampleScore {
  int64_t label = 0, chosen = 0;     ///< indices into the task's labels
  double max_probability = 0;        ///< of the chosen label among all labels
  double margin = 0;                 ///< between the two likeliest labels
  double entropy = 0;                ///< over the labels, nats
  double label_probability = 0;      ///< of the right label
  double brier = 0;                  ///< squared error of the labels' probabilities, summed over labels
  double learned = 0;                ///< where the header has a learned score: probability that the answer is right, by the hidden state
  bool fitted = false;               ///< the learned score was fitted on this row: routing leaves it out
  std::vector<double> values;        ///< of the header's metrics
  bool correct() const { return label == chosen; }
};
/// From the probabilities of all labels; `label`: the right one, -1 where it is not known.
ExampleScore example_score(const std::vector<double>& probabilities, int64_t label);

/// Which model's scores these are, and of which examples.
struct ScoreHeader {
  std::string artifact, model_sha256, task;
  std::string examples_sha256;       ///< of the prompts and right labels, in order: scores are paired only where it is equal
  std::vector<std::string> labels;
  std::vector<std::string> metrics =
      {};  ///< of the task's metrics those that are means over the examples (rouge_l ...); accuracy, brier and label_nll follow from the rows
  Json learned;                      ///< the learned score (eval/learned_score.h); null: none
  bool confident = true;             ///< false: nobody knows how sure the model was of its answers (a server that does not say); rows hold 1
};

struct Scores {
  ScoreHeader header;
  std::vector<ExampleScore> rows;
  std::string file_sha256;           ///< of the file they were read from
  std::vector<double> correct() const;
};

/// Writes a score file, an example a line (docs/decide.md): a header line, then rows in the order of the task's file.
class ScoreWriter {
 public:
  ScoreWriter(const fs::path& place, const ScoreHeader& header);
  void add(const ExampleScore& score);
  void commit();

 private:
  AtomicFile file_;
  bool learned_ = false, valued_ = false;
  int64_t rows_ = 0;
};

/// Strict: a header of this version, rows numbered from 0, probabilities in [0, 1], labels that the header names. Error names the line.
Scores read_scores(const fs::path& file);
/// Error unless both are of the same task and the same examples in the same order.
void check_paired(const Scores& a, const Scores& b);

/// Where an evaluate stage keeps the scores of one artifact: scores/<task>/<artifact>.jsonl, with anything but letters, digits, '.', '_' and '-'
/// replaced.
fs::path score_file(const fs::path& stage_folder, const std::string& task, const std::string& artifact);

}  // namespace attar
