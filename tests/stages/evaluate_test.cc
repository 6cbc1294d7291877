#include "stages/evaluate.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/check.h"
#include "data_path.h"
#include "decide/scores.h"
#include "http_server.h"

namespace attar {
namespace {

/// llama.cpp's server as far as it is asked here; `answer` gives the text for a prompt.
std::unique_ptr<HttpTestServer> llama_server(std::function<std::string(const std::string&)> answer) {
  return std::make_unique<HttpTestServer>([answer](const ServedRequest& request) {
    ServedAnswer out;
    out.body = request.method == "GET" ? R"({"data": [{"id": "small", "owned_by": "llamacpp"}]})" : answer(parse_json(request.body, "request")["prompt"].get<std::string>());
    return out;
  });
}

StageRun evaluation_in(const TestFolder& folder, const TaskConfig& task) {
  StageRun run;
  run.id = run.label = "report";
  run.task = task, run.base = folder.path(), run.run_folder = folder.path();
  run.out = folder / "out", run.work = folder / "work";
  fs::create_directories(run.out);
  fs::create_directories(run.work);
  return run;
}

TEST(Evaluate, WhatOneServerSpoilsLeavesTheRest) {
  TestFolder folder;
  write_file(folder / "test.jsonl", R"({"text": "so", "label": "yes"}
{"text": "not so", "label": "no"}
{"text": "never", "label": "no"}
)");
  TaskConfig task;
  task.name = "t", task.labels = {"yes", "no"}, task.test = (folder / "test.jsonl").string();
  std::atomic<int> good_asked = 0;
  std::atomic<bool> broken = true;
  const auto good = llama_server([&](const std::string& prompt) { return ++good_asked, std::string(prompt == "not so\n" ? R"({"content": "no"})" : R"({"content": "yes"})"); });
  const auto bad = llama_server([&](const std::string&) { return std::string(broken ? "<html>busy</html>" : R"({"content": "no"})"); });
  EvaluateConfig config;
  config.latency = false;
  for (const auto& [name, server] : {std::pair{"a_good", good.get()}, {"bad", bad.get()}}) config.runtime[name].url = server->address();
  StageRun run = evaluation_in(folder, task);
  std::string said;
  try {
    run_evaluate(run, config);
  } catch (const Error& error) {
    said = error.what();
  }
  EXPECT_NE(said.find("bad: "), std::string::npos) << said;
  EXPECT_NE(said.find("report.partial"), std::string::npos) << said;
  EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  const Json partial = read_json(folder.path() / "report.partial" / "report.json");
  EXPECT_NEAR(partial["artifacts"]["a_good"]["tasks"]["t"]["accuracy"]["value"].get<double>(), 2.0 / 3, 1e-12);
  EXPECT_TRUE(partial["artifacts"]["bad"].contains("failed"));
  EXPECT_FALSE(fs::exists(run.out / "report.json"));
  // Mended, only what is missing is asked.
  broken = false;
  run_evaluate(run, config);
  EXPECT_EQ(good_asked, 3);
  EXPECT_FALSE(fs::exists(folder / "report.partial"));
  const Json report = read_json(run.out / "report.json");
  EXPECT_EQ(report["artifacts"]["bad"]["task_details"]["t"]["method"], "grammar");
  const Scores scores = read_scores(score_file(run.out, "t", "a_good"));
  EXPECT_EQ(scores.correct(), (std::vector<double>{1, 1, 0}));
  EXPECT_EQ(scores.header.examples_sha256, read_scores(score_file(run.out, "t", "bad")).header.examples_sha256);
}

TEST(Evaluate, ServersOfOneRunAreCompared) {
  TestFolder folder;
  write_file(folder / "test.jsonl", "{\"text\": \"who\", \"label\": \"the old man\"}\n{\"text\": \"where\", \"label\": [\"here\", \"there\"]}\n");
  TaskConfig task;
  task.name = "t", task.kind = "text", task.test = (folder / "test.jsonl").string(), task.metric = "rouge_l";
  const auto first = llama_server([](const std::string& prompt) { return std::string(prompt == "who\n" ? R"({"content": "the old man"})" : R"({"content": "there"})"); });
  const auto second = llama_server([](const std::string& prompt) { return std::string(prompt == "who\n" ? R"({"content": "the man"})" : R"({"content": " there "})"); });
  EvaluateConfig config;
  config.latency = false;
  config.runtime["a"].url = first->address();
  config.runtime["b"].url = second->address();
  config.runtime["b"].of = "a";
  config.base = "a";
  StageRun run = evaluation_in(folder, task);
  run_evaluate(run, config);
  const Json b = read_json(run.out / "report.json")["artifacts"]["b"];
  EXPECT_EQ(b["tasks"]["t"].begin().key(), "rouge_l");
  EXPECT_NEAR(b["tasks"]["t"]["rouge_l"]["value"].get<double>(), (0.8 + 1) / 2, 1e-12);
  EXPECT_NEAR(b["comparison"]["differences"]["rouge_l"]["value"].get<double>(), -0.1, 1e-12);
  EXPECT_NEAR(b["comparison"]["differences"]["exact_match"]["value"].get<double>(), -0.5, 1e-12);
  EXPECT_NEAR(b["agreement"]["same_answers"]["value"].get<double>(), 0.5, 1e-12);
  EXPECT_NEAR(b["against_base"]["difference"]["value"].get<double>(), -0.1, 1e-12);
  const Scores scores = read_scores(score_file(run.out, "t", "b"));
  EXPECT_EQ(scores.header.metrics, (std::vector<std::string>{"exact_match", "f1", "rouge_l"}));
  EXPECT_NEAR(scores.rows[0].values[2], 0.8, 1e-12);
}

}  // namespace
}  // namespace attar
