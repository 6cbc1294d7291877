#pragma once
#include <memory>

#include "base/files.h"
#include "eval/task_eval.h"
#include "spec/configs.h"

namespace attar {

/// A running server that a task's questions go to: llama.cpp's, or any OpenAI-compatible one. docs/evaluate.md says which endpoints are used.
class Runtime {
 public:
  /// Asks which models there are. Error in one sentence if it is no such server, the model is not there, or its kind is not known.
  explicit Runtime(const RuntimeConfig& config);
  ~Runtime();
  /// "llama NAME at http://host:port": no hash of the weights can be had from a server.
  std::string fingerprint() const;
  /// {address, model, api}
  Json facts() const;

  /// Asks every example and judges the answers as evaluate_task does. Labels and choices: by the likelihood of their text (without the end token)
  /// where the server echoes prompts with log-probabilities and no answer begins with another one; else by what is written, on llama.cpp's server
  /// limited to the answers by a grammar. TaskResult::method says which. Written answers have the confidence that their log-probabilities give, where
  /// the server sends any; one that refuses to is asked without. Answers are kept line by line in `kept` and not asked for again; empty:
  /// nowhere. Error in one sentence naming the example if an answer is not what was asked for.
  TaskResult evaluate(const TaskConfig& task, const std::vector<TaskExample>& examples, const fs::path& kept = {}) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

/// A GBNF grammar that allows exactly these texts.
std::string answers_grammar(const std::vector<std::string>& answers);

/// Log-likelihood of `answer` behind `prompt` from a completion that echoes both with log-probabilities: the tokens that hold its text.
/// Error that begins with `name` if the tokens do not spell the text.
double echoed_likelihood(const Json& answer, const std::string& prompt, const std::string& text, const std::string& name);

/// How often two models gave the same answer: the same label or choice, or the same text.
Measure answer_agreement(const TaskResult& a, const TaskResult& b);

}  // namespace attar
