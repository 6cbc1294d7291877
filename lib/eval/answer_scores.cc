#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/utf8.h"
#include "eval/task_scores.h"
#include "eval/text_scores.h"

namespace attar {
namespace {

constexpr size_t kShownMistakes = 8;

int64_t text_length(const std::string& text) {
  return std::max<int64_t>(1, std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; }));
}

/// A, B, C ... for the most choices that a row has.
std::vector<std::string> choice_letters(const std::vector<TaskExample>& examples) {
  size_t most = 0;
  for (const TaskExample& example : examples) most = std::max(most, example.choices.size());
  std::vector<std::string> out;
  for (size_t i = 0; i < most; ++i) out.push_back(std::string(1, static_cast<char>('A' + i)));
  return out;
}

/// The first wrong answers, for a look.
void show_mistakes(const std::vector<TaskExample>& examples, const std::vector<double>& right, TaskResult& r) {
  Json mistakes = Json::array();
  for (size_t i = 0; i < examples.size() && mistakes.size() < kShownMistakes; ++i) {
    if (right[i] == 1) continue;
    mistakes.push_back({{"line", examples[i].line}, {"expected", one_line(examples[i].answer).substr(0, 200)},
                        {"written", one_line(r.written[i]).substr(0, 200)}});
  }
  if (!mistakes.empty()) r.more["mistakes"] = std::move(mistakes);
}

/// Each text matched to one of its row's answers; those that give none count as wrong, under a label of their own.
void match_written(const TaskConfig& task, const std::vector<TaskExample>& examples, TaskResult& r) {
  const bool classes = task.kind == "classification";
  r.labels = classes ? task.labels : choice_letters(examples);
  r.labels.push_back(kNoLabel);
  const std::vector<std::string> answers = classes ? task_answers(task) : std::vector<std::string>();
  int64_t unmatched = 0;
  std::vector<double> right;
  for (size_t i = 0; i < examples.size(); ++i) {
    int64_t found = matched_answer(r.written[i], classes ? answers : examples[i].choices);
    // A choice may be named by its letter where its text was asked for.
    if (found < 0 && !classes)
      found = matched_answer(r.written[i], {r.labels.begin(), r.labels.begin() + static_cast<std::ptrdiff_t>(examples[i].choices.size())});
    unmatched += found < 0;
    r.truth.push_back(examples[i].label);
    r.predicted.push_back(found < 0 ? static_cast<int64_t>(r.labels.size()) - 1 : found);
    right.push_back(r.truth.back() == r.predicted.back() ? 1 : 0);
  }
  r.more["unmatched"] = unmatched;
  if (unmatched > 0)
    r.notes.push_back(str(unmatched, " of ", examples.size(), " written answers give none of the ", classes ? "labels" : "choices",
                          "; they count as wrong"));
  if (classes) score_classes(r);
  else add_share(r, "accuracy", right), score_confidence(r, right);
  show_mistakes(examples, right, r);
}

}  // namespace

void score_choices(const std::vector<TaskExample>& examples, TaskResult& r) {
  r.labels = choice_letters(examples);
  std::vector<double> raw, normalised;
  const bool chosen = !r.predicted.empty();
  for (size_t i = 0; i < examples.size(); ++i) {
    const std::vector<double>& likelihoods = r.likelihoods[i];
    std::vector<double> by_length;
    for (size_t c = 0; c < likelihoods.size(); ++c) {
      if (!std::isfinite(likelihoods[c]))
        fail(str("likelihoods of example ", i), "finite numbers", str(likelihoods[c]), "the model's weights are damaged");
      by_length.push_back(likelihoods[c] / static_cast<double>(text_length(examples[i].choices[c])));
    }
    const auto best = std::max_element(likelihoods.begin(), likelihoods.end()) - likelihoods.begin();
    if (!chosen) r.predicted.push_back(best);
    double sum = 0;
    for (const double l : likelihoods) sum += std::exp(l - likelihoods[static_cast<size_t>(best)]);
    r.confidence.push_back(std::exp(likelihoods[static_cast<size_t>(r.predicted[i])] - likelihoods[static_cast<size_t>(best)]) / sum);
    r.truth.push_back(examples[i].label);
    raw.push_back(r.predicted[i] == examples[i].label ? 1 : 0);
    normalised.push_back(std::max_element(by_length.begin(), by_length.end()) - by_length.begin() == examples[i].label ? 1 : 0);
  }
  add_share(r, "accuracy", raw);
  if (!chosen) add_share(r, "accuracy_norm", std::move(normalised));
  score_confidence(r, raw);
}

void score_written(const TaskConfig& task, const std::vector<TaskExample>& examples, TaskResult& r) {
  check(r.written.size() == examples.size(), "answers of task " + task.name, str(examples.size()), str(r.written.size()));
  if (task.kind == "classification" || task.kind == "multiple_choice") return match_written(task, examples, r);
  r.labels = {"wrong", "right"};
  r.truth.assign(examples.size(), 1);
  if (task.kind == "extraction") {
    score_extraction(task, examples, r);
  } else if (task.kind == "next_word") {
    std::vector<double> right;
    for (size_t i = 0; i < examples.size(); ++i) right.push_back(begins_with_word(r.written[i], examples[i].answer) ? 1 : 0);
    add_share(r, "accuracy", std::move(right));
  } else {
    std::vector<double> exact, f1, rouge;
    for (size_t i = 0; i < examples.size(); ++i) {
      for (std::vector<double>* values : {&exact, &f1, &rouge}) values->push_back(0);
      for (const std::string& answer : examples[i].accepted) {
        exact[i] = std::max(exact[i], trimmed(r.written[i]) == trimmed(answer) ? 1.0 : 0.0);
        f1[i] = std::max(f1[i], word_f1(answer, r.written[i]));
        rouge[i] = std::max(rouge[i], rouge_l(answer, r.written[i]));
      }
    }
    add_share(r, "exact_match", std::move(exact));
    add_mean(r, "f1", std::move(f1));
    add_mean(r, "rouge_l", std::move(rouge));
  }
  const std::vector<double> right = r.correct();
  for (const double one : right) r.predicted.push_back(one > 0 ? 1 : 0);
  show_mistakes(examples, right, r);
}

}  // namespace attar
