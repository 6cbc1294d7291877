#include "eval/task_eval.h"

#include <cmath>

#include "base/check.h"
#include "data_path.h"
#include "eval/label_trie.h"
#include "eval/latency.h"
#include "eval/task_scores.h"
#include "eval/tiny_decoder.h"

namespace attar {
namespace {

/// Log-likelihood of one answer after one prompt by a plain causal forward pass.
double plain_likelihood(const Decoder& model, const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer) {
  const at::NoGradGuard no_grad;
  std::vector<int32_t> ids = prompt;
  ids.insert(ids.end(), answer.begin(), answer.end());
  TokenBatch tokens;
  tokens.ids = at::tensor(ids, at::kInt).to(at::kLong).unsqueeze(0);
  const at::Tensor scores = at::log_softmax(model.logits(model.hidden(tokens))[0].to(at::kDouble), 1);
  double sum = 0;
  for (size_t i = 0; i < answer.size(); ++i) sum += scores[static_cast<int64_t>(prompt.size() + i) - 1][answer[i]].item<double>();
  return sum;
}

TaskConfig letters_task() {
  TaskConfig task;
  task.name = "letters";
  task.labels = {"refund", "refund_status", "return", "r", "billing", "bill"};
  return task;
}

TEST(LabelTrie, SharesWhatAnswersShare) {
  const LabelTrie trie({{7, 8, 2}, {7, 9, 2}, {7, 2}, {5, 2}});
  EXPECT_EQ(trie.input_ids(), (std::vector<int32_t>{7, 8, 9, 5}));
  EXPECT_EQ(trie.input_depths(), (std::vector<int64_t>{1, 2, 2, 1}));
  EXPECT_EQ(trie.input_parents(), (std::vector<int64_t>{-1, 0, 0, -1}));
  EXPECT_EQ(trie.edges().size(), 8u);
  EXPECT_EQ(trie.depth(), 3);
  EXPECT_EQ(trie.label_edges()[0][0], trie.label_edges()[2][0]);
  EXPECT_THROW(LabelTrie({{1}, {}}), Error);
}

TEST(TaskEval, TreeLikelihoodsEqualPlainOnes) {
  const Decoder model = tiny_decoder();
  const ByteTokenizer tokenizer;
  std::vector<std::vector<int32_t>> prompts, answers;
  for (const char* prompt : {"where is it", "x", "", "a somewhat longer prompt that pads the others", "two of a length", "two of length a"})
    prompts.push_back(prompt_ids(prompt, tokenizer));
  for (const auto& answer : task_answers(letters_task())) answers.push_back(answer_ids(answer, tokenizer));
  double spread = 0;
  for (const int64_t batch_tokens : {1, 150, 4096}) {
    const auto likelihoods = answer_likelihoods(model, prompts, answers, batch_tokens);
    ASSERT_EQ(likelihoods.size(), prompts.size());
    for (size_t p = 0; p < prompts.size(); ++p)
      for (size_t a = 0; a < answers.size(); ++a) {
        const double plain = plain_likelihood(model, prompts[p], answers[a]);
        EXPECT_NEAR(likelihoods[p][a], plain, 1e-4) << p << " " << a << " " << batch_tokens;
        spread = std::max(spread, std::abs(plain - plain_likelihood(model, prompts[1], answers[a])));
      }
  }
  EXPECT_GT(spread, 0.1);  // the prompt matters, so equality above says something
}

TEST(TaskEval, SingleTokenAnswersNeedNoTree) {
  const Decoder model = tiny_decoder();
  const std::vector<std::vector<int32_t>> prompts = {{1, 40, 50}, {1, 60}}, answers = {{70}, {80}, {90}};
  const auto likelihoods = answer_likelihoods(model, prompts, answers);
  for (size_t p = 0; p < 2; ++p)
    for (size_t a = 0; a < 3; ++a) EXPECT_NEAR(likelihoods[p][a], plain_likelihood(model, prompts[p], answers[a]), 1e-4);
}

TEST(TaskEval, PredictsTheLikeliestAndShortensLongPrompts) {
  const Decoder model = tiny_decoder(3, 64);
  const ByteTokenizer tokenizer;
  const TaskConfig task = letters_task();
  std::vector<TaskExample> examples;
  for (int i = 0; i < 12; ++i) examples.push_back({"text " + str(i) + std::string(static_cast<size_t>(i * 6), 'y') + "\n", i % 6, i + 1});
  TaskOptions options;
  options.shorten = true;
  const TaskResult result = evaluate_task(model, tokenizer, task, examples, options);
  EXPECT_GT(result.shortened, 0);
  EXPECT_EQ(result.accuracy.n, 12);
  for (size_t i = 0; i < examples.size(); ++i) {
    std::vector<int32_t> prompt = prompt_ids(examples[i].prompt, tokenizer);
    const size_t room = 64 - (std::string("refund_status").size() + 1) + 1;
    if (prompt.size() > room) prompt.erase(prompt.begin() + 1, prompt.begin() + 1 + static_cast<int64_t>(prompt.size() - room));
    size_t best = 0;
    double most = -1e30;
    for (size_t a = 0; a < task.labels.size(); ++a) {
      const double l = plain_likelihood(model, prompt, answer_ids(task.labels[a], tokenizer));
      if (l > most) most = l, best = a;
    }
    EXPECT_EQ(result.predicted[i], static_cast<int64_t>(best)) << i;
    EXPECT_NEAR(result.likelihoods[i][best], most, 1e-4);
  }
  EXPECT_THROW(answer_likelihoods(model, {std::vector<int32_t>(70, 9)}, {{5, 2}}), Error);
}

TEST(TaskEval, ContentFreePromptsTakeOffWhatLabelsHaveAnyway) {
  const Decoder model = tiny_decoder();
  const ByteTokenizer tokenizer;
  TaskConfig task = letters_task();
  const std::vector<TaskExample> examples = {{"where is it\n", 0, 1}, {"N/A\n", 1, 2}, {"my bill\n", 5, 3}};
  const TaskResult raw = evaluate_task(model, tokenizer, task, examples);
  EXPECT_TRUE(raw.priors.empty());
  EXPECT_FALSE(raw.details().contains("priors"));
  task.content_free = {"N/A"};
  const TaskResult once = evaluate_task(model, tokenizer, task, examples);
  // The prompt that says nothing is the second example: all labels are equal there, and it alone decides what is taken off.
  for (size_t a = 0; a < task.labels.size(); ++a) {
    EXPECT_NEAR(once.likelihoods[1][a], once.likelihoods[1][0], 1e-5);  // float32 in another batch
    const double taken = raw.likelihoods[0][a] - once.likelihoods[0][a];
    EXPECT_NEAR(taken - (raw.likelihoods[0][0] - once.likelihoods[0][0]), raw.likelihoods[1][a] - raw.likelihoods[1][0], 1e-4);
  }
  EXPECT_NEAR(once.confidence[1], 1.0 / 6, 1e-6);
  EXPECT_EQ(once.details()["priors"].size(), 6u);
  // Two such prompts: the log of the mean of the labels' shares, from plain forward passes.
  task.content_free = {"N/A", ""};
  const TaskResult twice = evaluate_task(model, tokenizer, task, examples);
  std::vector<double> mean(task.labels.size(), 0);
  for (const char* text : {"N/A\n", "\n"}) {
    std::vector<double> likelihoods;
    for (const std::string& label : task.labels)
      likelihoods.push_back(plain_likelihood(model, prompt_ids(text, tokenizer), answer_ids(label, tokenizer)));
    double sum = 0;
    for (const double l : likelihoods) sum += std::exp(l);
    for (size_t a = 0; a < mean.size(); ++a) mean[a] += 0.5 * std::exp(likelihoods[a]) / sum;
  }
  double spread = 0;
  for (size_t a = 0; a < mean.size(); ++a) {
    EXPECT_NEAR(twice.priors[a], std::log(mean[a]), 1e-3);
    spread = std::max(spread, std::abs(twice.priors[a] - once.priors[a]));
  }
  EXPECT_GT(spread, 0.01);
}

TEST(TaskEval, IdsAreThoseOfTraining) {
  const ByteTokenizer tokenizer;
  Document document;
  document.pieces = {{"where is it\n", false}, {"lost", true}};
  std::vector<int32_t> halves = prompt_ids("where is it\n", tokenizer);
  const auto answer = answer_ids("lost", tokenizer);
  halves.insert(halves.end(), answer.begin(), answer.end());
  EXPECT_EQ(halves, render_document(document, tokenizer).ids);
}

TEST(TaskScores, KnownNumbers) {
  TaskResult r;
  r.labels = {"a", "b"};
  r.truth = {0, 0, 0, 1};
  const double sure = std::log(0.9), unsure = std::log(0.1);
  r.likelihoods = {{sure, unsure}, {sure, unsure}, {unsure, sure}, {unsure, sure}};
  score_classes(r);
  EXPECT_EQ(r.predicted, (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_DOUBLE_EQ(r.accuracy.value, 0.75);
  EXPECT_LT(r.accuracy.low, 0.75);
  EXPECT_GT(r.accuracy.high, 0.75);
  EXPECT_EQ(r.confusion, (std::vector<std::vector<int64_t>>{{2, 1}, {0, 1}}));
  EXPECT_NEAR(r.f1[0], 0.8, 1e-12);
  EXPECT_NEAR(r.f1[1], 2.0 / 3, 1e-12);
  EXPECT_NEAR(r.macro_f1.value, (0.8 + 2.0 / 3) / 2, 1e-12);
  EXPECT_NEAR(r.ece.value, 0.15, 1e-12);  // confident 0.9, right 0.75
  EXPECT_NEAR(r.brier.value, (3 * 0.02 + 1.62) / 4, 1e-12);
  EXPECT_NEAR(r.label_nll.value, -(3 * sure + unsure) / 4, 1e-12);
  for (const char* key : {"accuracy", "macro_f1", "ece", "brier"})
    for (const char* part : {"value", "low", "high", "n"}) EXPECT_TRUE(r.to_json()[key].contains(part));
  EXPECT_EQ(r.details()["reliability"].size(), 15u);
  r.likelihoods[2][0] = std::nan("");
  r.predicted.clear();
  EXPECT_THROW(score_classes(r), Error);
}

TEST(Latency, CountsRunsAndTokens) {
  LatencyOptions options;
  options.prompt_tokens = 1000;
  options.runs = 3;
  const LatencyResult result = measure_latency(tiny_decoder(1, 64), options);
  EXPECT_EQ(result.first_token_s.size(), 3u);
  EXPECT_LE(result.options.prompt_tokens + result.options.new_tokens, 64);
  EXPECT_GT(result.first_token_s[0], 0);
  EXPECT_GT(result.to_json()["tokens_per_s"]["value"].get<double>(), 0);
}

}  // namespace
}  // namespace attar
