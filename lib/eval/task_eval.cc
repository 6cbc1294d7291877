#include "eval/task_eval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "eval/answer_tree.h"
#include "eval/task_scores.h"
#include "eval/written_rows.h"
#include "spec/task_check.h"

namespace attar {

std::vector<std::vector<double>> answer_likelihoods(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts,
                                                    const std::vector<std::vector<int32_t>>& answers, int64_t batch_tokens) {
  const std::vector<LabelTrie> tree = {LabelTrie(answers)};
  std::vector<std::vector<double>> out;
  for (const EdgeScores& scores : score_answers(model, prompts, tree, batch_tokens, "task")) out.push_back(answer_sums(tree[0], scores));
  return out;
}

std::vector<double> content_free_priors(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task,
                                        const std::vector<std::vector<int32_t>>& answers) {
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& text : task.content_free) prompts.push_back(prompt_ids(fill_template(task.prompt, {{"text", text}}), tokenizer));
  std::vector<double> out(answers.size(), 0);
  for (const std::vector<double>& likelihoods : answer_likelihoods(model, prompts, answers)) {
    const double most = *std::max_element(likelihoods.begin(), likelihoods.end());
    double sum = 0;
    for (const double l : likelihoods) sum += std::exp(l - most);
    for (size_t i = 0; i < out.size(); ++i) out[i] += std::exp(likelihoods[i] - most) / sum / static_cast<double>(prompts.size());
  }
  // A label without any share left would be chosen always: the smallest number keeps it finite.
  for (double& share : out) share = std::log(std::max(share, std::numeric_limits<double>::min()));
  return out;
}

std::vector<std::vector<int32_t>> prompts_of(const Tokenizer& tokenizer, const std::vector<TaskExample>& examples) {
  std::vector<std::vector<int32_t>> out;
  for (const TaskExample& example : examples) out.push_back(prompt_ids(example.prompt, tokenizer));
  return out;
}

int64_t fit_prompts(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                    const std::vector<int64_t>& answer, const TaskOptions& options, std::vector<std::vector<int32_t>>& prompts) {
  const int64_t context = model.spec().context;
  int64_t cut = 0, refused = 0, first_line = 0, first_length = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<int32_t>& ids = prompts[i];
    check(!ids.empty(), str("prompt of ", task.test, ":", examples[i].line), "text, or a tokenizer with BOS", "nothing");
    // The last token of an answer is never read.
    const int64_t room = context - answer[i] + 1, length = static_cast<int64_t>(ids.size());
    if (context > 0) check(room >= 2, "context of the model", "room for a prompt and the longest answer", str(context));
    if (context <= 0 || length <= room) continue;
    if (options.shorten) {
      const int64_t keep = tokenizer.add_bos() && tokenizer.bos() ? 1 : 0;
      ids.erase(ids.begin() + keep, ids.begin() + keep + (length - room));
      ++cut;
    } else if (refused++ == 0) {
      first_line = examples[i].line, first_length = length + answer[i] - 1;
    }
  }
  if (refused > 0) {
    fail(str(task.test, ":", first_line, ": prompt with its answer"), str("at most ", context, " tokens, the model's context"),
         str(first_length, refused > 1 ? str(" (and ", refused - 1, " further rows that are too long)") : ""),
         "take a model of a longer context, shorten the texts, or let prompts lose their beginning: long_prompts: shorten (--long-prompts shorten)");
  }
  return cut;
}

namespace {

/// Adds what the scores say of a row's answers: their likelihoods, and the one that constrained generation writes where `constrained`.
void take_answers(const LabelTrie& tree, const EdgeScores& scores, bool constrained, TaskResult& out) {
  if (!constrained) {
    out.likelihoods.push_back(answer_sums(tree, scores));
    return;
  }
  ConstrainedChoice choice = constrained_choice(tree, scores);
  out.predicted.push_back(choice.answer);
  out.likelihoods.push_back(std::move(choice.log_probs));
}

TaskResult classify_rows(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                         const TaskOptions& options) {
  TaskResult out;
  out.labels = task.labels;
  std::vector<std::vector<int32_t>> answers;
  size_t longest = 0;
  for (const auto& answer : task_answers(task)) {
    answers.push_back(answer_ids(answer, tokenizer));
    longest = std::max(longest, answers.back().size());
  }
  const std::vector<int64_t> room(examples.size(), static_cast<int64_t>(longest));
  auto prompts = prompts_of(tokenizer, examples);
  out.shortened = fit_prompts(model, tokenizer, task, examples, room, options, prompts);
  const std::vector<LabelTrie> tree = {LabelTrie(answers)};
  const bool constrained = task_method(task) == "generation";
  for (const EdgeScores& scores : score_answers(model, prompts, tree, 4096, "task")) take_answers(tree[0], scores, constrained, out);
  for (const TaskExample& example : examples) out.truth.push_back(example.label);
  if (!task.content_free.empty()) {
    out.priors = content_free_priors(model, tokenizer, task, answers);
    for (auto& likelihoods : out.likelihoods)
      for (size_t i = 0; i < likelihoods.size(); ++i) likelihoods[i] -= out.priors[i];
  }
  return out;
}

/// Each row's choices as a tree of its own.
TaskResult choose_rows(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                       const TaskOptions& options) {
  TaskResult out;
  std::vector<LabelTrie> trees;
  std::vector<int64_t> room;
  for (const TaskExample& example : examples) {
    std::vector<std::vector<int32_t>> answers;
    for (const std::string& choice : example.choices) answers.push_back(answer_ids(choice, tokenizer));
    trees.emplace_back(answers);
    room.push_back(trees.back().depth());
  }
  auto prompts = prompts_of(tokenizer, examples);
  out.shortened = fit_prompts(model, tokenizer, task, examples, room, options, prompts);
  const bool constrained = task_method(task) == "generation";
  const std::vector<EdgeScores> scores = score_answers(model, prompts, trees, 4096, "task");
  for (size_t i = 0; i < examples.size(); ++i) take_answers(trees[i], scores[i], constrained, out);
  return out;
}

/// LAMBADA's protocol: a word is right if each of its tokens is the likeliest where it stands.
TaskResult last_words(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                      const TaskOptions& options) {
  TaskResult out;
  std::vector<LabelTrie> trees;
  std::vector<int64_t> room;
  std::vector<std::vector<int32_t>> prompts;
  for (const TaskExample& example : examples) {
    // Tokens of the whole text, as it is read: those that are not of the text before the word are the word's.
    const std::vector<int32_t> before = tokenizer.encode(example.prompt), whole = tokenizer.encode(example.prompt + example.answer);
    size_t same = 0;
    while (same < before.size() && same + 1 < whole.size() && before[same] == whole[same]) ++same;
    check(same < whole.size(), str(task.test, ":", example.line), "a last word", "nothing");
    trees.emplace_back(std::vector<std::vector<int32_t>>{{whole.begin() + static_cast<std::ptrdiff_t>(same), whole.end()}});
    room.push_back(trees.back().depth());
    prompts.push_back(prompt_ids("", tokenizer));
    prompts.back().insert(prompts.back().end(), before.begin(), before.begin() + static_cast<std::ptrdiff_t>(same));
  }
  out.shortened = fit_prompts(model, tokenizer, task, examples, room, options, prompts);
  std::vector<double> right, nll;
  for (const EdgeScores& scores : score_answers(model, prompts, trees, 4096, "task")) {
    right.push_back(std::all_of(scores.likeliest.begin(), scores.likeliest.end(), [](uint8_t best) { return best != 0; }) ? 1 : 0);
    nll.push_back(-std::accumulate(scores.log_probs.begin(), scores.log_probs.end(), 0.0));
    out.confidence.push_back(std::exp(-nll.back() / static_cast<double>(scores.log_probs.size())));
    out.predicted.push_back(right.back() > 0);
  }
  out.labels = {"wrong", "right"};
  out.truth.assign(examples.size(), 1);
  add_share(out, "accuracy", std::move(right));
  add_mean(out, "word_nll", std::move(nll));
  return out;
}

}  // namespace

TaskResult evaluate_task(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                         const TaskOptions& options) {
  check(!examples.empty(), "examples of task " + task.name, "one at least", "none");
  TaskResult out;
  if (task.kind == "classification") {
    out = classify_rows(model, tokenizer, task, examples, options);
    score_classes(out);
  } else if (task.kind == "multiple_choice") {
    out = choose_rows(model, tokenizer, task, examples, options);
    score_choices(examples, out);
  } else if (task.kind == "next_word" && task_method(task) == "likelihood") {
    out = last_words(model, tokenizer, task, examples, options);
  } else {
    out = write_rows(model, tokenizer, task, examples, options);
    score_written(task, examples, out);
  }
  out.name = task.name, out.kind = task.kind, out.method = task_method(task), out.metric = task.metric;
  return out;
}

}  // namespace attar
