#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/rows.h"

namespace attar {

/// What a model is to go on with.
struct Prompt {
  enum class Kind { answer, chat, text };
  Kind kind = Kind::answer;
  Json record;                ///< the row that will hold what is written: a prompt, a chat up to its last answer, or nothing yet
  std::vector<int32_t> ids;   ///< as the model reads it, BOS included where the tokenizer adds one
  int64_t bos = 0;            ///< 1 if the first id is BOS
};

/// Prompts of the files that DataConfig names, under its names of fields: a task's rows in its template, prompt fields, chats up to their last
/// answer, and texts: their first `prefix` tokens, and of a text longer than data.seq those of each stretch of data.seq tokens. Rows need no answers.
/// The tokenizer must live as long as the reader.
class PromptReader {
 public:
  PromptReader(const fs::path& path, const DataConfig& config, const TaskConfig* task, const Tokenizer& tokenizer, int64_t prefix);
  ~PromptReader();
  /// Error naming file, line and field.
  bool next(Prompt& prompt);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The prompt's row with `ids` written into it, to be read as data of the same configuration. False (and why) if they make no text to learn from.
bool written_row(const Prompt& prompt, const std::vector<int32_t>& ids, const Tokenizer& tokenizer, const DataConfig& config, Json& row,
                 std::string& why);

/// The same for an answer, or the continuation of prompt.ids, that somebody wrote as text.
bool written_text_row(const Prompt& prompt, const std::string& text, const Tokenizer& tokenizer, const DataConfig& config, Json& row,
                      std::string& why);

/// Ids that end what a model writes: EOS, and what ends an assistant's turn in the tokenizer's chat template (or ChatML).
std::vector<int64_t> ending_ids(const Tokenizer& tokenizer, const DataConfig& config);

}  // namespace attar
