#include "eval/runtime.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/log.h"
#include "base/utf8.h"
#include "eval/kept_answers.h"
#include "eval/task_scores.h"
#include "eval/text_scores.h"
#include "eval/written_rows.h"
#include "http/client.h"
#include "spec/task_check.h"
#include "teacher/served_model.h"

namespace attar {
namespace {

const std::vector<std::string> kRuntimeApis = {"auto", "llama", "echo", "completions", "chat"};

HttpOptions runtime_options(const RuntimeConfig& config) {
  HttpOptions options;
  options.timeout = config.timeout;
  options.attempts = config.attempts;
  options.key_variable = config.key_env;
  return options;
}

bool is_choosing(const TaskConfig& task) { return task.kind == "classification" || task.kind == "multiple_choice"; }

/// An answer that goes on where another ends is never likelier without an end token.
bool nested(const std::vector<std::string>& answers) {
  for (const std::string& a : answers)
    for (const std::string& b : answers)
      if (&a != &b && b.starts_with(a)) return true;
  return false;
}

std::string clipped(const Json& value) { return one_line(to_line(value)).substr(0, 80); }

/// choices[0] of a completion or a chat's answer.
const Json& choice_of(const Json& answer, const std::string& name) {
  const bool listed = answer.is_object() && answer.contains("choices") && answer["choices"].is_array() && !answer["choices"].empty();
  if (!listed || !answer["choices"][0].is_object()) fail(name, "an object with choices", clipped(answer), "is this an OpenAI-compatible server?");
  return answer["choices"][0];
}

/// What a server wrote, as it is kept: {text}, and {log_prob, tokens} of the tokens that hold it where the server gives their log-probabilities.
/// `tokens`: its list of them; `length`: bytes of the text that count.
Json kept_answer(const std::string& text, const Json& tokens, size_t length) {
  Json out = {{"text", text}};
  double sum = 0;
  int64_t count = 0;
  size_t spelled = 0;
  for (const Json& token : tokens) {
    // What is behind the text is of no answer; of an empty one the token that ended it.
    if (spelled >= length && count > 0) break;
    const auto value = token.is_object() && token.contains("logprob") ? token["logprob"] : Json();
    const auto piece = token.is_object() && token.contains("token") ? token["token"] : Json();
    if (!value.is_number() || !piece.is_string() || !(value.get<double>() <= 1e-3)) return out;
    const auto& spelling = piece.get_ref<const std::string&>();
    // The first token may be shown with a space that is not in the text.
    if (count == 0 && spelling.starts_with(' ') && !text.starts_with(' ')) ++length;
    sum += value.get<double>(), ++count;
    spelled += spelling.size();
  }
  if (count > 0 && std::isfinite(sum)) out["log_prob"] = sum, out["tokens"] = count;
  return out;
}

bool is_kept_answer(const Json& answer) {
  if (!answer.is_object() || !answer.contains("text") || !answer["text"].is_string()) return false;
  return !answer.contains("log_prob") || (answer["log_prob"].is_number() && answer.contains("tokens") && answer["tokens"].is_number());
}

/// The tokens of a written answer as a list of {token, logprob}; empty where the server gives none.
Json written_tokens(const Json& answer, const std::string& api) {
  if (api == "llama") return answer.value("completion_probabilities", Json::array());
  const Json& choice = answer["choices"][0];
  const Json said = choice.contains("logprobs") && choice["logprobs"].is_object() ? choice["logprobs"] : Json::object();
  if (api == "chat") return said.value("content", Json::array());
  const Json tokens = said.value("tokens", Json::array()), values = said.value("token_logprobs", Json::array());
  Json out = Json::array();
  for (size_t i = 0; tokens.is_array() && values.is_array() && i < std::min(tokens.size(), values.size()); ++i)
    out.push_back({{"token", tokens[i]}, {"logprob", values[i]}});
  return out;
}

/// Asks for the log-probabilities of what will be written.
Json with_log_probabilities(Json question, const std::string& api) {
  if (api == "llama") question["n_probs"] = 1;
  else if (api == "chat") question["logprobs"] = true;
  else question["logprobs"] = 1;
  return question;
}

/// How sure the server was of each answer, unless it did not say it of one that has text: a chosen answer's probability, of free writing the tokens'
/// geometric mean.
std::vector<double> written_confidence(const std::vector<Json>& answers, bool chosen) {
  std::vector<double> out;
  bool any = false;
  for (const Json& answer : answers) {
    const bool given = answer.contains("log_prob");
    if (!given && !trimmed(answer["text"].get<std::string>()).empty()) return {};
    any = any || given;
    const double tokens = given && !chosen ? answer["tokens"].get<double>() : 1;
    out.push_back(given ? std::min(1.0, std::exp(answer["log_prob"].get<double>() / tokens)) : 0);
  }
  return any ? out : std::vector<double>();
}

/// A text, or nothing where the server wrote null (a model that refuses).
std::string text_at(const Json& object, const char* key, const std::string& name) {
  if (!object.is_object() || !object.contains(key)) fail(name, str("an answer with ", key), clipped(object));
  if (object[key].is_null()) return "";
  if (!object[key].is_string()) fail(name + ": " + key, "text", clipped(object[key]));
  return object[key].get<std::string>();
}

std::string instruction_of(const TaskConfig& task) {
  if (!task.instruction.empty()) return task.instruction;
  std::string labels;
  if (task.kind == "classification")
    for (const std::string& answer : task_answers(task)) labels += (labels.empty() ? "" : ", ") + answer;
  if (task.kind == "classification") return "Answer with exactly one of these labels and nothing else: " + labels + ".";
  if (task.kind == "multiple_choice") return "Answer with the letter of the right choice and nothing else.";
  if (task.kind == "extraction")
    return "Answer with one JSON object that follows this JSON Schema, and nothing else: " + to_line(read_json(task.schema));
  if (task.kind == "next_word") return "Go on with the text. Write its next word and nothing else.";
  return "Answer as shortly as you can, and write nothing else.";
}

}  // namespace

struct Runtime::State {
  RuntimeConfig config;
  ServedModel served;
  std::string api;

  void choose_api() {
    check(std::find(kRuntimeApis.begin(), kRuntimeApis.end(), config.api) != kRuntimeApis.end(), "api of runtime " + served.base(),
          "auto, llama, echo, completions or chat", config.api, nearest_hint(config.api, kRuntimeApis));
    api = config.api;
    if (api != "auto") return;
    const std::string& owner = served.owner();
    api = owner == "llamacpp" ? "llama" : owner == "vllm" || owner == "me" ? "echo" : "";
    check(!api.empty(), "server " + served.base() + "/v1/models: kind of server", "llamacpp, vllm or me as the model's owner",
          "'" + one_line(owner).substr(0, 80) + "'", "say what it answers to: --api completions or chat");
  }

  /// Path and question for a written answer.
  std::pair<std::string, Json> written_question(const TaskConfig& task, const TaskExample& example, const std::vector<std::string>& answers) const {
    int64_t most = task_max_tokens(task);
    // No answer has more tokens than bytes.
    for (const std::string& answer : answers) most = std::max(most, static_cast<int64_t>(answer.size()) + 1);
    std::vector<std::string> stop = task.stop;
    // A model that was not told where labels end goes on in the next line.
    if (is_choosing(task) && std::none_of(answers.begin(), answers.end(), [](const std::string& a) { return a.find('\n') != std::string::npos; }))
      stop.push_back("\n");
    if (api == "llama") {
      Json question = {{"prompt", example.prompt}, {"n_predict", most}, {"temperature", 0.0}, {"cache_prompt", false}, {"stream", false}};
      if (is_choosing(task)) question["grammar"] = answers_grammar(answers);
      else if (!stop.empty()) question["stop"] = stop;
      if (task.kind == "extraction") question["json_schema"] = read_json(task.schema);
      return {"/completion", std::move(question)};
    }
    Json question = {{"model", served.name()}, {"max_tokens", most}, {"temperature", 0.0}};
    if (api == "chat") {
      std::string prompt = example.prompt;
      // A chat model chooses among what it sees.
      if (task.kind == "multiple_choice" && task.prompt.find("{choices}") == std::string::npos)
        for (size_t i = 0; i < answers.size(); ++i)
          prompt += (prompt.ends_with('\n') ? "" : "\n") + std::string(1, static_cast<char>('A' + i)) + ". " + trimmed(answers[i]);
      question["messages"] = {{{"role", "system"}, {"content", instruction_of(task)}}, {{"role", "user"}, {"content", prompt}}};
      if (!task.stop.empty()) question["stop"] = task.stop;
      return {"/v1/chat/completions", std::move(question)};
    }
    question["prompt"] = example.prompt;
    if (!stop.empty()) question["stop"] = stop;
    return {"/v1/completions", std::move(question)};
  }

  std::string written(const Json& answer, const std::string& name) const {
    if (api == "llama") return text_at(answer, "content", name);
    const Json& choice = choice_of(answer, name);
    return api == "chat" ? text_at(choice.contains("message") ? choice["message"] : choice, "content", name) : text_at(choice, "text", name);
  }

  /// Asks `count` questions at once, as far as they were not asked before; `question` gives path and JSON of one, `read` what is kept of its answer.
  /// `written`: texts are asked for, with their log-probabilities unless the server refuses the first question like that; else numbers are read.
  template <class Question, class Read>
  std::vector<Json> ask_all(int64_t count, const fs::path& kept, const Question& question, const Read& read, bool written) const {
    KeptAnswers answers(kept, api + " " + served.name() + " at " + served.base());
    std::vector<Json> out(static_cast<size_t>(count));
    Progress progress("runtime", count, "questions");
    std::mutex guard;
    int64_t done = 0;
    const auto ask = [&](int64_t i, bool plain) {
      auto [path, asked] = question(i);
      if (written && !plain) asked = with_log_probabilities(std::move(asked), api);
      const std::string key = path + " " + to_line(asked);
      Json& answer = out[static_cast<size_t>(i)];
      if (!answers.find(key, answer) || !(written ? is_kept_answer(answer) : answer.is_number())) {
        answer = read(i, served.post(path, asked, str("runtime ", served.base(), path, ", question ", i + 1)));
        answers.keep(key, answer);
      }
      const std::lock_guard<std::mutex> lock(guard);
      progress.update(++done);
    };
    served.guarded([&] {
      bool plain = false;
      try {
        ask(0, false);
      } catch (const Error&) {
        if (!written) throw;
        ask(0, plain = true);
      }
      for_each_at_once(count - 1, std::max<int64_t>(1, config.concurrency), [&](int64_t i) { ask(i + 1, plain); });
    });
    progress.finish();
    return out;
  }
};

Runtime::Runtime(const RuntimeConfig& config) {
  check(is_http_address(config.url), "runtime's url", "http://host:port", config.url.empty() ? "nothing" : config.url);
  auto state = std::unique_ptr<State>(new State{config, ServedModel(config.url, config.model, runtime_options(config)), ""});
  state->served.guarded([&] { state->choose_api(); });
  state_ = std::move(state);
}

Runtime::~Runtime() = default;

std::string Runtime::fingerprint() const { return state_->api + " " + state_->served.name() + " at " + state_->served.base(); }

Json Runtime::facts() const { return {{"address", state_->served.base()}, {"model", state_->served.name()}, {"api", state_->api}}; }

TaskResult Runtime::evaluate(const TaskConfig& task, const std::vector<TaskExample>& examples, const fs::path& kept) const {
  check(!examples.empty(), "examples of task " + task.name, "one at least", "none");
  const State& s = *state_;
  const std::vector<std::string> labels = task.kind == "classification" ? task_answers(task) : std::vector<std::string>();
  const auto answers_of = [&](size_t i) -> const std::vector<std::string>& { return labels.empty() ? examples[i].choices : labels; };
  bool likelihood = s.api == "echo" && is_choosing(task) && task_method(task) == "likelihood";
  for (size_t i = 0; likelihood && i < (labels.empty() ? examples.size() : 1); ++i) likelihood = !nested(answers_of(i));
  TaskResult out;
  if (likelihood) {
    std::vector<std::pair<size_t, size_t>> jobs;  // example, answer
    for (size_t i = 0; i < examples.size(); ++i)
      for (size_t a = 0; a < answers_of(i).size(); ++a) jobs.push_back({i, a});
    const auto question = [&](int64_t job) {
      const auto [i, a] = jobs[static_cast<size_t>(job)];
      return std::pair<std::string, Json>{"/v1/completions", {{"model", s.served.name()}, {"prompt", examples[i].prompt + answers_of(i)[a]},
                                                              {"max_tokens", 1}, {"temperature", 0.0}, {"echo", true}, {"logprobs", 1}}};
    };
    const auto read = [&](int64_t job, const Json& answer) {
      const auto [i, a] = jobs[static_cast<size_t>(job)];
      const std::string name = str("runtime ", s.served.base(), ", line ", examples[i].line, " of ", task.test);
      return Json(echoed_likelihood(answer, examples[i].prompt, answers_of(i)[a], name));
    };
    const std::vector<Json> values = s.ask_all(static_cast<int64_t>(jobs.size()), kept, question, read, false);
    out.likelihoods.resize(examples.size());
    for (size_t job = 0; job < jobs.size(); ++job) out.likelihoods[jobs[job].first].push_back(values[job].get<double>());
    if (labels.empty()) {
      score_choices(examples, out);
    } else {
      out.labels = task.labels;
      for (const TaskExample& example : examples) out.truth.push_back(example.label);
      score_classes(out);
    }
    out.method = "likelihood";
  } else {
    const auto question = [&](int64_t i) {
      const auto example = static_cast<size_t>(i);
      return s.written_question(task, examples[example], is_choosing(task) ? answers_of(example) : std::vector<std::string>());
    };
    const auto read = [&](int64_t i, const Json& answer) {
      const std::string line = str("line ", examples[static_cast<size_t>(i)].line, " of ", task.test);
      const std::string text = s.written(answer, "runtime " + s.served.base() + ", " + line);
      bool ended = false;
      return kept_answer(text, written_tokens(answer, s.api), until_stop(text, task.stop, ended).size());
    };
    const std::vector<Json> answers = s.ask_all(static_cast<int64_t>(examples.size()), kept, question, read, true);
    int64_t silent = 0;
    for (const Json& answer : answers) {
      bool ended = false;
      out.written.push_back(until_stop(answer["text"].get<std::string>(), task.stop, ended));
      silent += trimmed(out.written.back()).empty();
    }
    out.more["unanswered"] = silent;
    if (silent > 0) out.notes.push_back(str(silent, " of ", examples.size(), " questions got an empty answer; they count as wrong"));
    out.confidence = written_confidence(answers, is_choosing(task));
    if (out.confidence.empty()) {
      out.more["confidence"] = "not given by this server";
      out.notes.push_back("how sure each answer is, is not given by this server: no calibration");
    }
    score_written(task, examples, out);
    out.method = !is_choosing(task) ? "generation" : s.api == "llama" ? "grammar" : "matched";
  }
  out.name = task.name, out.kind = task.kind, out.metric = task.metric;
  return out;
}

std::string answers_grammar(const std::vector<std::string>& answers) {
  std::string out = "root ::= ";
  for (size_t i = 0; i < answers.size(); ++i) {
    out += i ? " | \"" : "\"";
    for (const char c : answers[i])
      out += c == '"' || c == '\\' ? std::string("\\") + c : c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : std::string(1, c);
    out += "\"";
  }
  return out;
}

double echoed_likelihood(const Json& answer, const std::string& prompt, const std::string& text, const std::string& name) {
  const Json& choice = choice_of(answer, name);
  const auto list = [&](const char* key) -> const Json& {
    const bool some = choice.contains("logprobs") && choice["logprobs"].is_object();
    if (!some || !choice["logprobs"].contains(key) || !choice["logprobs"][key].is_array())
      fail(name + ": logprobs." + key, "a list", "nothing",
           "the server does not echo prompts with log-probabilities: --api completions, or method: generation in the task file");
    return choice["logprobs"][key];
  };
  const Json &tokens = list("tokens"), &values = list("token_logprobs");
  check(tokens.size() == values.size(), name + ": logprobs", "lists of one length", str(tokens.size(), " and ", values.size()));
  const std::string whole = prompt + text;
  std::string spelled;
  for (const Json& token : tokens) {
    if (!token.is_string()) fail(name + ": logprobs.tokens", "texts", clipped(token));
    spelled += token.get<std::string>();
  }
  // The first token of a text may be shown with a space that is not in it; behind the text stands what was written.
  const size_t shift = spelled.starts_with(whole) ? 0 : 1;
  if (shift == 1 && !(spelled.starts_with(" ") && spelled.compare(1, whole.size(), whole) == 0))
    fail(name + ": logprobs.tokens", "those of the text that was sent", one_line(spelled).substr(0, 60),
         "let it write instead: method: generation in the task file");
  double sum = 0;
  size_t begin = 0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const size_t end = begin + tokens[t].get_ref<const std::string&>().size();
    if (end > prompt.size() + shift && begin < whole.size() + shift) {
      if (!values[t].is_number() || !std::isfinite(values[t].get<double>()))
        fail(name + ": logprobs.token_logprobs", "numbers", clipped(values[t]));
      sum += values[t].get<double>();
    }
    begin = end;
  }
  return sum;
}

Measure answer_agreement(const TaskResult& a, const TaskResult& b) {
  check(a.truth.size() == b.truth.size(), "answers to compare", str(a.truth.size()), str(b.truth.size()));
  const bool choosing = a.kind == "classification" || a.kind == "multiple_choice" || a.written.empty() || b.written.empty();
  int64_t same = 0;
  for (size_t i = 0; i < a.truth.size(); ++i) same += choosing ? a.predicted[i] == b.predicted[i] : trimmed(a.written[i]) == trimmed(b.written[i]);
  return proportion(same, static_cast<int64_t>(a.truth.size()));
}

}  // namespace attar
