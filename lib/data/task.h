#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/files.h"
#include "data/row_reader.h"
#include "data/rows.h"
#include "spec/configs.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// A task file with its paths found (${NAME:-default} filled in; tried in the working directory, then in the task file's folder and those above)
/// and, for a classification, its labels filled in: where it lists none, those of the training rows, sorted. Error for a missing file, duplicate
/// or no labels, and what spec/task_check.h finds.
TaskConfig load_task(const fs::path& file);
/// The same for a task that was read elsewhere; `base`: folder that paths are relative to after the working directory.
TaskConfig complete_task(TaskConfig task, const fs::path& base);

/// One row of a task, rendered.
struct TaskExample {
  std::string prompt;
  int64_t label;   ///< classification: index into TaskConfig::labels; multiple_choice: into `choices`; others: 0
  int64_t line;    ///< in the file, from 1
  std::string answer = {};                ///< what the model must write; extraction: JSON in the schema's order
  std::vector<std::string> choices = {};  ///< multiple_choice: what it must write for each
  std::vector<std::string> accepted = {}; ///< text: every right answer
};

/// Renders rows by a task's fields and templates: the same for training, evaluation and whoever else shows them to a model.
class TaskRows {
 public:
  /// The schema of an extraction is read here.
  explicit TaskRows(const TaskConfig& task);
  ~TaskRows();
  /// Error naming file, line and field: a missing field, a label that the task does not have (with the nearest one), a label that is no choice or
  /// two, an answer that does not follow the schema. `answered` false: the right answer may be missing, and is not looked at.
  TaskExample example(const RecordReader& records, const Json& record, bool answered = true) const;
  /// The row as a text to learn from: prompt and answer; of a next_word task the text as it is.
  Document document(const RecordReader& records, const Json& record, bool learn_prompt) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

/// Rows of `file`; `limit` 0: all. A classification's labels must be complete. Error as TaskRows gives it, or for no rows at all.
std::vector<TaskExample> read_task(const fs::path& file, const TaskConfig& task, int64_t limit = 0);
/// What the model must write for each label: task.answer filled in. Error if two labels give one text, or one is empty.
std::vector<std::string> task_answers(const TaskConfig& task);

/// Token ids of one document. The only place where documents become ids, so training and evaluation cannot differ.
struct RenderedDocument {
  std::vector<int32_t> ids;
  std::vector<uint8_t> learn;  ///< one per id
  int64_t prompt = 0;          ///< ids that Document::prompt_pieces gave, BOS included
  int64_t bos = 0;             ///< 1 if the first id is BOS
};
/// BOS (if the tokenizer adds one), each piece encoded alone, EOS (learned, if there is one). Document::joined: encoded as one text, BOS once,
/// no EOS but the text's own.
RenderedDocument render_document(const Document& document, const Tokenizer& tokenizer);
/// The two halves of an example as render_document writes them: BOS and prompt; answer and EOS.
std::vector<int32_t> prompt_ids(const std::string& prompt, const Tokenizer& tokenizer);
std::vector<int32_t> answer_ids(const std::string& answer, const Tokenizer& tokenizer);
/// Drops ids after BOS until `length` are left, from the prompt only; false if that is not enough.
bool shorten_prompt(RenderedDocument& rendered, int64_t length);

}  // namespace attar
