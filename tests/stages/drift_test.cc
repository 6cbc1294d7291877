// attar drift on every kind of task: what it says of new rows is what an evaluation of them keeps.
#include "stages/drift.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>

#include "base/check.h"
#include "data_path.h"
#include "decide/drift.h"
#include "decide/scores.h"
#include "stages/evaluate.h"
#include "trained_model.h"

namespace attar {
namespace {

constexpr int64_t kJudgedRows = 60;

/// A model that has learned a little, and rows of every kind of task.
class DriftKinds : public ::testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    root_ = new fs::path(fs::temp_directory_path() / ("attar_drift_test_" + std::to_string(::getpid())));
    fs::remove_all(*root_);
    train_small_model(*root_, "model", 300);
    write_file(*root_ / "schema.json", R"({"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]})");
  }
  static void TearDownTestSuite() {
    fs::remove_all(*root_);
    delete root_;
  }
  /// Rows of the kind, `from`: number of the first; `other`: longer ones with other words.
  static fs::path rows(const std::string& kind, const std::string& name, int64_t from, bool other, bool labelled = true) {
    std::string lines;
    for (int64_t i = from; i < from + kJudgedRows; ++i) {
      std::string text = other ? "invoice" : str("The ", i % 7, "th parcel of street ", i % 11);
      for (int64_t word = 0; word < (other ? 12 + i % 5 : i % 3); ++word) text += other ? str(" ZQ", (i * word) % 9) : " was sent";
      Json row = {{"text", text}};
      if (kind == "multiple_choice") row["choices"] = {"came late", "came early", "was lost"};
      if (labelled && kind == "extraction") row["label"] = {{"day", i % 5}};
      else if (labelled && kind != "next_word") row["label"] = kind == "classification" ? (i % 2 ? "late" : "early") : kind == "text" ? "late" : "B";
      lines += to_line(row) + "\n";
    }
    write_file(*root_ / name, lines);
    return *root_ / name;
  }

  static TaskConfig task(const std::string& kind, const fs::path& test) {
    TaskConfig out;
    out.name = "t", out.kind = kind, out.test = test.string(), out.prompt = "{text} ";
    if (kind == "classification") out.labels = {"late", "early"};
    if (kind == "extraction") out.schema = (*root_ / "schema.json").string();
    if (kind == "extraction" || kind == "text") out.max_tokens = 6;
    return complete_task(out, *root_);
  }

  /// What an evaluation of the rows keeps.
  static fs::path kept(const TaskConfig& task, const std::string& folder) {
    EvaluationInputs inputs;
    inputs.task = task, inputs.latency = false, inputs.scores = *root_ / folder;
    Evaluation(inputs).measure(*root_ / "model", "model");
    return *root_ / folder;
  }
  static DriftRequest request(const fs::path& reference, const fs::path& data) {
    DriftRequest out;
    out.reference = reference, out.artifact = "model", out.model = *root_ / "model", out.data = data;
    return out;
  }
  static std::map<std::string, Json> by_name(const Json& drift) {
    std::map<std::string, Json> out;
    for (const Json& test : drift["tests"]) out[test["name"].get<std::string>()] = test;
    return out;
  }
  static fs::path* root_;
};
fs::path* DriftKinds::root_ = nullptr;

std::vector<double> confidences(const Scores& scores) {
  std::vector<double> out;
  for (const ExampleScore& row : scores.rows) out.push_back(row.max_probability);
  return out;
}

std::vector<double> values_of(const Scores& scores, const std::string& metric) {
  if (scores.header.metrics.empty()) return scores.correct();
  const auto found = std::find(scores.header.metrics.begin(), scores.header.metrics.end(), metric);
  std::vector<double> out;
  for (const ExampleScore& row : scores.rows) out.push_back(row.values.at(static_cast<size_t>(found - scores.header.metrics.begin())));
  return out;
}

TEST_P(DriftKinds, SaysOfNewRowsWhatAnEvaluationOfThemKeeps) {
  const std::string kind = GetParam();
  const TaskConfig judged = task(kind, rows(kind, "test.jsonl", 0, false));
  const fs::path reference = kept(judged, kind + "_reference");
  // Rows of the same making: nothing drifted.
  const Json same = measure_drift(request(reference, rows(kind, "same.jsonl", 77, false)));
  EXPECT_FALSE(same["drifted"].get<bool>()) << to_line(same);
  EXPECT_EQ(same["labelled"], kJudgedRows);
  // Longer ones with other words: lengths and words drift whatever the kind, and every number is that of the files.
  const fs::path other = rows(kind, "other.jsonl", 5, true);
  const Json moved = measure_drift(request(reference, other));
  EXPECT_TRUE(moved["drifted"].get<bool>());
  auto tests = by_name(moved);
  EXPECT_TRUE(tests.at("length")["drifted"].get<bool>());
  EXPECT_TRUE(tests.at("words")["drifted"].get<bool>());
  const Scores before = read_scores(score_file(reference, "t", "model"));
  const Scores now = read_scores(score_file(kept(task(kind, other), kind + "_new"), "t", "model"));
  const KolmogorovSmirnov sureness = kolmogorov_smirnov(confidences(before), confidences(now));
  EXPECT_NEAR(tests.at("confidence")["effect"].get<double>(), sureness.distance, 1e-12);
  EXPECT_NEAR(tests.at("confidence")["p"].get<double>(), sureness.p, 1e-12);
  EXPECT_GT(sureness.distance, 0) << "else equality says little";
  std::vector<std::string> metrics = before.header.metrics;
  if (kind == "classification") metrics = {"accuracy"};
  EXPECT_EQ(tests.size(), 3 + metrics.size());
  for (const std::string& metric : metrics) {
    const std::vector<double> a = values_of(before, metric), b = values_of(now, metric);
    const double sign = metric == "word_nll" ? -1 : 1;
    EXPECT_NEAR(tests.at(metric)["effect"].get<double>(), sign * mann_whitney(a, b).delta, 1e-12) << metric;
    EXPECT_NEAR(tests.at(metric)["reference"].get<double>(), std::accumulate(a.begin(), a.end(), 0.0) / kJudgedRows, 1e-12) << metric;
    EXPECT_NEAR(tests.at(metric)["now"].get<double>(), std::accumulate(b.begin(), b.end(), 0.0) / kJudgedRows, 1e-12) << metric;
  }
}

TEST_P(DriftKinds, RowsWithoutLabelsAreHeldToWhatCanBeSaidOfThem) {
  const std::string kind = GetParam();
  const fs::path reference = kept(task(kind, rows(kind, "test.jsonl", 0, false)), kind + "_unlabelled");
  const Json found = measure_drift(request(reference, rows(kind, "bare.jsonl", 9, false, false)));
  std::vector<std::string> names;
  for (const Json& test : found["tests"]) names.push_back(test["name"].get<std::string>());
  std::vector<std::string> expected = {"length", "words", "confidence"};
  if (kind == "extraction") expected.insert(expected.end(), {"valid_json", "valid_schema"});
  if (kind == "next_word") expected.insert(expected.end(), {"accuracy", "word_nll"});
  EXPECT_EQ(names, expected);
  EXPECT_EQ(found["labelled"], kind == "next_word" ? kJudgedRows : 0);
}

TEST_P(DriftKinds, AnswersThatBecameWrongAreSeenThoughTheInputsStay) {
  const std::string kind = GetParam();
  const fs::path test = rows(kind, "test.jsonl", 0, false);
  const fs::path reference = kept(task(kind, test), kind + "_right");
  // The reference said that every answer was right.
  const fs::path file = score_file(reference, "t", "model");
  Scores scores = read_scores(file);
  ScoreWriter writer(file, scores.header);
  for (ExampleScore& row : scores.rows) {
    row.chosen = row.label;
    for (double& value : row.values) value = 1;
    writer.add(row);
  }
  writer.commit();
  const Json found = measure_drift(request(reference, test));
  auto tests = by_name(found);
  for (const char* name : {"length", "words", "confidence"}) EXPECT_FALSE(tests.at(name)["drifted"].get<bool>()) << name;
  EXPECT_EQ(tests.at("confidence")["effect"], 0.0);
  EXPECT_TRUE(found["drifted"].get<bool>()) << to_line(found);
}

INSTANTIATE_TEST_SUITE_P(Tasks, DriftKinds, ::testing::Values("classification", "multiple_choice", "extraction", "text", "next_word"),
                         [](const auto& kind) { return kind.param; });

TEST_F(DriftKinds, RefusesServersOtherKindsAndOtherMethods) {
  const fs::path test = rows("text", "test.jsonl", 0, false), reference = kept(task("text", test), "refusing");
  const auto said = [](const DriftRequest& asked) -> std::string {
    try {
      measure_drift(asked);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  DriftRequest asked = request(reference, test);
  write_json(*root_ / "other.yaml", write_fields(task("next_word", test)));
  asked.task = *root_ / "other.yaml";
  EXPECT_NE(said(asked).find("text, generation"), std::string::npos) << said(asked);
  asked = request(reference, test);
  asked.model.clear();
  write_json(reference / "report.json", {{"artifacts", {{"model", {{"path", "http://127.0.0.1:9"}}}}}});
  EXPECT_NE(said(asked).find("a running server, http://127.0.0.1:9"), std::string::npos) << said(asked);
  EXPECT_EQ(said(asked).find('\n'), std::string::npos);
}

}  // namespace
}  // namespace attar
