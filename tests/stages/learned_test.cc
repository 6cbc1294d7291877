#include "stages/learned.h"

#include "base/check.h"
#include "data_path.h"
#include "decide/route.h"
#include "eval/tiny_decoder.h"

namespace attar {
namespace {

/// 200 prompts whose first letter tells whether the model's answer was right, but for every tenth.
struct LearnedTask {
  std::vector<TaskExample> examples;
  Decoder model = tiny_decoder(3, 64);
  ByteTokenizer tokenizer;

  LearnedTask() {
    for (int64_t i = 0; i < 200; ++i) {
      TaskExample example;
      example.prompt = std::string(i % 2 ? "yes " : "no ") + std::to_string(i * i);
      example.label = 0, example.line = i + 1;
      examples.push_back(example);
    }
  }
  fs::path write(const fs::path& file, const std::string& name, bool large = false) const {
    ScoreWriter writer(file, {name, "hash of " + name, "task", "examples", {"a", "b"}, {}});
    for (int64_t i = 0; i < 200; ++i) {
      const bool right = large || (i % 2 == 1) != (i % 10 == 3);
      ExampleScore score = example_score({right ? 0.6 : 0.4, right ? 0.4 : 0.6}, 0);
      writer.add(score);
    }
    writer.commit();
    return file;
  }
};

RouteConfig by_learned_score() {
  RouteConfig config;
  config.score = "learned", config.error = 0.3;
  return config;
}

TEST(LearnedRouting, AScoreIsFittedOnAQuarterThatRoutingLeavesOut) {
  const LearnedTask task;
  const TestFolder folder;
  const fs::path file = task.write(folder / "small.jsonl", "small");
  const Json said = add_learned_score(file, task.model, task.tokenizer, task.examples, "mean");
  EXPECT_EQ(said["fitted_rows"], 50);
  EXPECT_FALSE(said.contains("weights"));
  const Scores small = read_scores(file), large = read_scores(task.write(folder / "large.jsonl", "large", true));
  int64_t fitted = 0;
  double right = 0, wrong = 0, rights = 0, wrongs = 0;
  for (const ExampleScore& row : small.rows) {
    fitted += row.fitted;
    if (row.fitted) continue;
    (row.correct() ? right : wrong) += row.learned, (row.correct() ? rights : wrongs) += 1;
  }
  EXPECT_EQ(fitted, 50);
  EXPECT_GT(right / rights, wrong / wrongs + 0.3);
  const Json router = make_router(small, large, by_learned_score(), 0, 1);
  EXPECT_EQ(router["guarantee"]["design_rows"].get<int64_t>() + router["guarantee"]["test_rows"].get<int64_t>(), 150);
  EXPECT_EQ(router["expected"]["quality"]["n"], 150);
  EXPECT_EQ(router["rule"]["score"], "learned");
  EXPECT_GT(router["apgr"].get<double>(), 0.6);
  EXPECT_EQ(judge_router(router, "router.json", small, &large)["rows"], 150);
}

TEST(LearnedRouting, ARoutersOwnScoreIsAppliedToLaterRows) {
  const LearnedTask task;
  const TestFolder folder;
  const fs::path file = task.write(folder / "small.jsonl", "small");
  add_learned_score(file, task.model, task.tokenizer, task.examples, "mean");
  const Scores first = read_scores(file);
  const Json router = make_router(first, read_scores(task.write(folder / "large.jsonl", "large", true)), by_learned_score(), 0, 1);
  write_json(folder / "router.json", router);
  const fs::path later = task.write(folder / "later.jsonl", "small");
  add_learned_score(later, task.model, task.tokenizer, task.examples, (folder / "router.json").string());
  const Scores applied = read_scores(later);
  for (size_t i = 0; i < applied.rows.size(); ++i) {
    EXPECT_FALSE(applied.rows[i].fitted);
    EXPECT_NEAR(applied.rows[i].learned, first.rows[i].learned, 1e-9);
  }
  EXPECT_EQ(judge_router(router, "router.json", applied, nullptr)["rows"], 200);
  // Another fit is another score: its threshold would mean nothing.
  const fs::path other = task.write(folder / "other.jsonl", "small");
  add_learned_score(other, task.model, task.tokenizer, task.examples, "last");
  EXPECT_THROW(judge_router(router, "router.json", read_scores(other), nullptr), Error);
  EXPECT_THROW(judge_router(router, "router.json", read_scores(task.write(folder / "none.jsonl", "small")), nullptr), Error);
}

TEST(LearnedRouting, WhatCannotBeLearnedIsRefused) {
  const LearnedTask task;
  const TestFolder folder;
  const fs::path file = task.write(folder / "small.jsonl", "small");
  EXPECT_THROW(add_learned_score(file, task.model, task.tokenizer, task.examples, "first"), Error);
  write_file(folder / "router.json", "{}");
  EXPECT_THROW(add_learned_score(file, task.model, task.tokenizer, task.examples, (folder / "router.json").string()), Error);
  auto fewer = task.examples;
  fewer.resize(100);
  EXPECT_THROW(add_learned_score(file, task.model, task.tokenizer, fewer, "last"), Error);
  EXPECT_THROW(sureness_of(read_scores(file), "learned"), Error);
}

}  // namespace
}  // namespace attar
