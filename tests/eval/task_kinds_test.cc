#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <numeric>

#include "base/check.h"
#include "data_path.h"
#include "eval/answer_tree.h"
#include "eval/task_scores.h"
#include "eval/text_scores.h"
#include "eval/tiny_decoder.h"
#include "eval/written_rows.h"
#include "model/generate.h"

namespace attar {
namespace {

/// Logits of the token after `ids` by a plain forward pass.
at::Tensor plain_logits(const Decoder& model, const std::vector<int32_t>& ids) {
  const at::NoGradGuard no_grad;
  TokenBatch tokens;
  tokens.ids = at::tensor(ids, at::kInt).to(at::kLong).unsqueeze(0);
  return model.logits(model.hidden(tokens))[0][static_cast<int64_t>(ids.size()) - 1].to(at::kDouble);
}

double plain_sum(const Decoder& model, std::vector<int32_t> ids, const std::vector<int32_t>& answer) {
  double sum = 0;
  for (const int32_t id : answer) {
    sum += at::log_softmax(plain_logits(model, ids), 0)[id].item<double>();
    ids.push_back(id);
  }
  return sum;
}

/// Greedy writing, token by token, without a cache.
std::string plain_writing(const Decoder& model, const Tokenizer& tokenizer, const std::string& prompt, int64_t most) {
  std::vector<int32_t> ids = prompt_ids(prompt, tokenizer), made;
  while (static_cast<int64_t>(made.size()) < most) {
    const auto next = static_cast<int32_t>(plain_logits(model, ids).slice(0, 0, tokenizer.size()).argmax().item<int64_t>());
    if (next == *tokenizer.eos()) break;
    made.push_back(next);
    ids.push_back(next);
  }
  return tokenizer.decode(made);
}

TaskConfig task_of(const std::string& kind) {
  TaskConfig task;
  task.name = kind, task.kind = kind;
  return task;
}

std::string said_by(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(TaskKinds, ConstrainedGenerationGoesWhereGreedyWritingAmongLabelsGoes) {
  const Decoder model = tiny_decoder();
  const ByteTokenizer tokenizer;
  TaskConfig task = task_of("classification");
  task.labels = {"refund", "refund_status", "return", "r", "billing", "bill"};
  task.method = "generation";
  std::vector<TaskExample> examples;
  for (int i = 0; i < 10; ++i) examples.push_back({"ticket " + str(i * 37) + "\n", i % 6, i + 1});
  const TaskResult result = evaluate_task(model, tokenizer, task, examples);
  TaskConfig likeliest = task;
  likeliest.method = "likelihood";
  const TaskResult other = evaluate_task(model, tokenizer, likeliest, examples);
  std::vector<std::vector<int32_t>> answers;
  for (const auto& label : task.labels) answers.push_back(answer_ids(label, tokenizer));
  for (size_t i = 0; i < examples.size(); ++i) {
    std::vector<int32_t> ids = prompt_ids(examples[i].prompt, tokenizer), made;
    std::vector<std::vector<int32_t>> open = answers;
    // At every step the likeliest among the tokens that some answer still has there.
    for (size_t t = 0; open.size() > 1 || made.size() < open[0].size(); ++t) {
      const at::Tensor logits = plain_logits(model, ids);
      int32_t best = open[0][t];
      for (const auto& answer : open)
        if (logits[answer[t]].item<double>() > logits[best].item<double>()) best = answer[t];
      made.push_back(best);
      ids.push_back(best);
      std::erase_if(open, [&](const auto& answer) { return answer.size() <= t || answer[t] != best; });
    }
    EXPECT_EQ(answers[static_cast<size_t>(result.predicted[i])], made) << i;
    double sum = 0;
    for (const double l : result.likelihoods[i]) sum += std::exp(l);
    EXPECT_NEAR(sum, 1, 1e-9);  // among the labels nothing else can be written
  }
  EXPECT_EQ(result.method, "generation");
  EXPECT_TRUE(result.to_json().contains("brier"));
  EXPECT_NE(result.likelihoods, other.likelihoods);
}

TEST(TaskKinds, ChoicesByRawAndNormalisedLikelihood) {
  const Decoder model = tiny_decoder(2);
  const ByteTokenizer tokenizer;
  std::vector<TaskExample> examples;
  const std::vector<std::vector<std::string>> choices = {{"yes", "certainly not, no"}, {"a", "b", "something rather long"}, {"x y", "z"}};
  for (int i = 0; i < 9; ++i) {
    examples.push_back({"question " + str(i) + std::string(static_cast<size_t>(i), '?'), i % 2, i + 1});
    examples.back().choices = choices[static_cast<size_t>(i) % 3];
    examples.back().answer = examples.back().choices[static_cast<size_t>(i % 2)];
  }
  const TaskResult result = evaluate_task(model, tokenizer, task_of("multiple_choice"), examples);
  int64_t raw = 0, normalised = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    size_t best = 0, best_normalised = 0;
    std::vector<double> sums;
    for (const std::string& choice : examples[i].choices)
      sums.push_back(plain_sum(model, prompt_ids(examples[i].prompt, tokenizer), answer_ids(choice, tokenizer)));
    for (size_t c = 0; c < sums.size(); ++c) {
      EXPECT_NEAR(result.likelihoods[i][c], sums[c], 1e-4);
      const auto per_character = [&](size_t k) { return sums[k] / static_cast<double>(examples[i].choices[k].size()); };
      if (sums[c] > sums[best]) best = c;
      if (per_character(c) > per_character(best_normalised)) best_normalised = c;
    }
    EXPECT_EQ(result.predicted[i], static_cast<int64_t>(best));
    raw += static_cast<int64_t>(best) == examples[i].label;
    normalised += static_cast<int64_t>(best_normalised) == examples[i].label;
  }
  EXPECT_DOUBLE_EQ(result.to_json()["accuracy"]["value"].get<double>(), static_cast<double>(raw) / 9);
  EXPECT_DOUBLE_EQ(result.to_json()["accuracy_norm"]["value"].get<double>(), static_cast<double>(normalised) / 9);
  EXPECT_NE(raw, normalised);  // so that the two are told apart
  EXPECT_EQ(result.labels, (std::vector<std::string>{"A", "B", "C"}));
}

TEST(TaskKinds, AWordIsRightIfEachOfItsTokensIsTheLikeliest) {
  const Decoder model = tiny_decoder(4);
  const ByteTokenizer tokenizer;
  std::vector<TaskExample> examples;
  std::vector<double> nll;
  for (int i = 0; i < 6; ++i) {
    const std::string prompt = "some text " + str(i);
    std::string word = " word";
    if (i % 2 == 0) {  // what the model writes itself must count as right
      word = plain_writing(model, tokenizer, prompt, 2);
      if (word.size() != 2) word = " other";
    }
    examples.push_back({prompt, 0, i + 1, word});
    nll.push_back(-plain_sum(model, prompt_ids(prompt, tokenizer), tokenizer.encode(word)));
  }
  const TaskResult result = evaluate_task(model, tokenizer, task_of("next_word"), examples);
  int64_t own = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    const std::vector<int32_t> wanted = tokenizer.encode(examples[i].answer);
    std::vector<int32_t> ids = prompt_ids(examples[i].prompt, tokenizer);
    bool right = true;
    for (const int32_t id : wanted) {
      right = right && plain_logits(model, ids).argmax().item<int64_t>() == id;
      ids.push_back(id);
    }
    own += right;
    EXPECT_EQ(result.correct()[i], right ? 1 : 0) << i;
    EXPECT_NEAR(result.values[1].second[i], nll[i], 1e-4);
  }
  EXPECT_GT(own, 0);
  EXPECT_LT(own, 6);
  EXPECT_NEAR(result.to_json()["word_nll"]["value"].get<double>(), std::accumulate(nll.begin(), nll.end(), 0.0) / 6, 1e-4);
}

TEST(TaskKinds, WrittenAnswersAreThoseOfGreedyWriting) {
  const Decoder model = tiny_decoder(5);
  const ByteTokenizer tokenizer;
  TaskConfig task = task_of("text");
  task.max_tokens = 12;
  std::vector<TaskExample> examples;
  for (int i = 0; i < 5; ++i) {
    examples.push_back({"prompt " + std::string(static_cast<size_t>(3 * i), 'z') + str(i), 0, i + 1});
    examples.back().accepted = {i == 0 ? plain_writing(model, tokenizer, examples[0].prompt, 12) : "nothing of the kind"};
  }
  const TaskResult result = evaluate_task(model, tokenizer, task, examples);
  for (size_t i = 0; i < examples.size(); ++i) EXPECT_EQ(result.written[i], plain_writing(model, tokenizer, examples[i].prompt, 12)) << i;
  EXPECT_EQ(result.correct(), (std::vector<double>{1, 0, 0, 0, 0}));
  EXPECT_EQ(result.details()["mistakes"][0]["line"], 2);
  for (const double c : result.confidence) EXPECT_TRUE(c > 0 && c <= 1);
  // A text that ends a written answer, in the middle of it.
  task.stop = {result.written[1].substr(4, 2)};
  const TaskResult stopped = evaluate_task(model, tokenizer, task, examples);
  bool ended = false;
  for (size_t i = 0; i < examples.size(); ++i) EXPECT_EQ(stopped.written[i], until_stop(result.written[i], task.stop, ended)) << i;
  EXPECT_LE(stopped.written[1].size(), 4u);
}

TEST(TaskKinds, LogProbabilityOfWrittenTextIsItsTokens) {
  const Decoder model = tiny_decoder(5);
  const ByteTokenizer tokenizer;
  const auto prompt = prompt_ids("prompt", tokenizer);
  WriteOptions options;
  options.generate.max_tokens = 5;
  options.log_probs = true;
  const auto greedy = write_texts(model, {prompt}, {0}, options)[0];
  EXPECT_NEAR(greedy.log_prob, plain_sum(model, prompt, greedy.ids), 1e-4);
  options.generate.temperature = 1;
  options.top_p = 0.5;
  const auto drawn = write_texts(model, {prompt}, {0}, options)[0];
  EXPECT_NEAR(drawn.log_prob, plain_sum(model, prompt, drawn.ids), 1e-4);
}

TEST(TaskKinds, PromptsLongerThanTheContextAreRefusedOrShortened) {
  const Decoder model = tiny_decoder(3, 64);
  const ByteTokenizer tokenizer;
  for (const char* kind : {"classification", "multiple_choice", "text", "next_word"}) {
    TaskConfig task = task_of(kind);
    task.test = "test.jsonl", task.labels = {"yes", "no"}, task.max_tokens = 8;
    std::vector<TaskExample> examples = {{"short", 0, 4, " yes", {"yes", "no"}, {"yes"}}, {std::string(80, 'y'), 1, 9, " no", {"yes", "no"}, {"no"}}};
    const std::string said = said_by([&] { evaluate_task(model, tokenizer, task, examples); });
    EXPECT_NE(said.find("test.jsonl:9"), std::string::npos) << kind << said;
    EXPECT_NE(said.find("at most 64 tokens"), std::string::npos) << said;
    TaskOptions options;
    options.shorten = true;
    EXPECT_EQ(evaluate_task(model, tokenizer, task, examples, options).shortened, 1) << kind;
  }
}

TEST(TaskKinds, OneClassAloneHasNoMacroF1) {
  TaskResult r;
  r.labels = {"a", "b"};
  r.truth = {0, 0, 0};
  r.predicted = {0, 1, 0};
  score_classes(r);
  EXPECT_NEAR(r.to_json()["accuracy"]["value"].get<double>(), 2.0 / 3, 1e-12);
  EXPECT_FALSE(r.to_json().contains("macro_f1"));
  ASSERT_EQ(r.notes.size(), 1u);
  EXPECT_NE(r.notes[0].find("all 3 rows of the test set have the label 'a'"), std::string::npos);
}

TEST(TaskKinds, TheNamedMetricStandsFirst) {
  TaskConfig task = task_of("text");
  TaskResult r;
  r.metric = "rouge_l";
  r.written = {"a b c"};
  std::vector<TaskExample> examples = {{"p", 0, 1}};
  examples[0].accepted = {"a b d"};
  score_written(task, examples, r);
  EXPECT_EQ(r.to_json().begin().key(), "rouge_l");
  EXPECT_EQ(r.to_json().size(), 3u);
}

TEST(WrittenAnswers, MatchedToLabels) {
  const std::vector<std::string> labels = {"refund", "refund_status", "card arrival", "A1"};
  EXPECT_EQ(matched_answer("refund", labels), 0);
  EXPECT_EQ(matched_answer(" \"Refund_Status\".\n", labels), 1);
  EXPECT_EQ(matched_answer("refund_status because", labels), 1);
  EXPECT_EQ(matched_answer("refunds are", labels), -1);
  EXPECT_EQ(matched_answer("The intent is card arrival, I think", labels), 2);
  EXPECT_EQ(matched_answer("card arrival or A1", labels), 2);        // it begins with it
  EXPECT_EQ(matched_answer("either A1 or card arrival", labels), -1);  // two of them
  EXPECT_EQ(matched_answer("", labels), -1);
}

TEST(WrittenAnswers, UnmatchedOnesAreCountedAndWrong) {
  TaskConfig task = task_of("classification");
  task.labels = {"yes", "no"};
  TaskResult r;
  r.written = {"yes", "maybe", "No."};
  score_written(task, {{"p", 0, 1, "yes"}, {"p", 0, 2, "yes"}, {"p", 1, 3, "no"}}, r);
  EXPECT_EQ(r.predicted, (std::vector<int64_t>{0, 2, 1}));
  EXPECT_EQ(r.labels.back(), kNoLabel);
  EXPECT_NEAR(r.accuracy.value, 2.0 / 3, 1e-12);
  EXPECT_EQ(r.details()["unmatched"], 1);
  // yes: precision 1, recall 1/2; no: both 1. What is none of the labels is no class of the mean.
  EXPECT_NEAR(r.macro_f1.value, (2.0 / 3 + 1) / 2, 1e-12);
}

TEST(TextScores, KnownNumbers) {
  // "police killed the gunman" against "police kill the gunman" and "the gunman kill police": Lin 2004, section 3.
  EXPECT_NEAR(rouge_l("police killed the gunman", "police kill the gunman"), 0.75, 1e-12);
  EXPECT_NEAR(rouge_l("police killed the gunman", "the gunman kill police"), 0.5, 1e-12);
  EXPECT_NEAR(rouge_l("The quick, brown fox!", "quick fox"), 2 * 2.0 / (4 + 2), 1e-12);
  EXPECT_EQ(rouge_l("", "a"), 0);
  EXPECT_EQ(rouge_words("Größe: 3-4 cm"), (std::vector<std::string>{"größe", "3", "4", "cm"}));
  EXPECT_NEAR(word_f1("the cat sat on a mat", "Cat sat, on mats."), 2 * 3.0 / (4 + 4), 1e-12);
  EXPECT_EQ(word_f1("the", "an"), 1);
  EXPECT_EQ(word_f1("x", "the"), 0);
  EXPECT_NEAR(word_f1("a a b b", "b b b"), 2 * 2.0 / (2 + 3), 1e-12);  // articles are left out, words count as often as both hold them
  EXPECT_TRUE(begins_with_word(" home, sweet", " home."));
  EXPECT_FALSE(begins_with_word(" homes", " home"));
  EXPECT_TRUE(begins_with_word(" ... and", " ..."));
}

TEST(Extraction, FieldByField) {
  TestFolder folder;
  write_file(folder / "s.json", R"({"type": "object", "properties": {"id": {"type": "string"}, "n": {"type": "integer"}, "tags": {"type": "array"}}, "required": ["id"]})");
  TaskConfig task = task_of("extraction");
  task.schema = (folder / "s.json").string();
  std::vector<TaskExample> examples;
  for (const char* answer : {R"({"id":"x","n":1,"tags":["p","q"]})", R"({"id":"y"})", R"({"id":"z","n":2})", R"({"id":"w"})", R"({"id":"v"})"})
    examples.push_back({"p", 0, static_cast<int64_t>(examples.size()) + 1, answer});
  TaskResult r;
  r.written = {" {\"n\": 1.0, \"tags\": [\"q\", \"p\", \"p\"], \"id\": \"x\"}\n", "```json\n{\"id\": \"y\", \"n\": null}\n```",
               "{\"id\": \"z\", \"n\": 3}", "no json", "{\"n\": \"v\"}"};
  score_written(task, examples, r);
  EXPECT_EQ(r.correct(), (std::vector<double>{0, 1, 0, 0, 0}));
  const Json numbers = r.to_json();
  EXPECT_NEAR(numbers["valid_json"]["value"].get<double>(), 0.8, 1e-12);
  EXPECT_NEAR(numbers["valid_schema"]["value"].get<double>(), 0.4, 1e-12);  // null is no integer, "v" neither, and the last has no id
  // id: 3 found, 2 missed. n: 1 found, 1 missed, wrong 3 and "v". tags: 2 found, 1 wrong.
  EXPECT_NEAR(numbers["field_precision"]["value"].get<double>(), 6.0 / 9, 1e-12);
  EXPECT_NEAR(numbers["field_recall"]["value"].get<double>(), 6.0 / 9, 1e-12);
  EXPECT_NEAR(numbers["field_f1"]["value"].get<double>(), 6.0 / 9, 1e-12);
  const Json fields = r.details()["fields"];
  ASSERT_EQ(fields.size(), 3u);
  EXPECT_EQ(fields[0]["field"], "id");
  EXPECT_NEAR(fields[0]["recall"]["value"].get<double>(), 0.6, 1e-12);
  EXPECT_EQ(fields[1]["field"], "n");
  EXPECT_NEAR(fields[1]["precision"]["value"].get<double>(), 1.0 / 3, 1e-12);
  EXPECT_EQ(fields[2]["field"], "tags[]");
  EXPECT_NEAR(fields[2]["precision"]["value"].get<double>(), 2.0 / 3, 1e-12);
  EXPECT_EQ(r.details()["invalid_json"], 1);
  for (const char* key : {"exact_match", "field_f1"}) EXPECT_EQ(numbers[key]["n"], 5);
}

}  // namespace
}  // namespace attar
