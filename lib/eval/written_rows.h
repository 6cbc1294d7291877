#pragma once
#include "eval/task_eval.h"

namespace attar {

/// Answers every example in writing: greedily, in batches, until the end token, one of task.stop, or task_max_tokens(task) tokens. Fills in written,
/// confidence (the tokens' geometric mean probability) and shortened; nothing is judged yet.
TaskResult write_rows(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                      const TaskOptions& options);

/// `text` up to the first of the stop texts; `ended`: whether there was one.
std::string until_stop(const std::string& text, const std::vector<std::string>& stop, bool& ended);

}  // namespace attar
