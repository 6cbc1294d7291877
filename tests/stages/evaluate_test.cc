#include "stages/evaluate.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/check.h"
#include "data_path.h"
#include "decide/scores.h"
#include "http_server.h"
#include "trained_model.h"

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

TEST(Evaluate, WhatIsComparedAfterAStopIsWhatItWouldHaveBeen) {
  for (const char* kind : {"text", "classification"}) {
    SCOPED_TRACE(kind);
    TestFolder folder;
    write_file(folder / "test.jsonl", "{\"text\": \"who\", \"label\": \"the old man\"}\n{\"text\": \"where\", \"label\": \"here\"}\n");
    TaskConfig task;
    task.name = "t", task.kind = kind, task.test = (folder / "test.jsonl").string();
    if (task.kind == "classification") task.labels = {"the old man", "here"};
    std::atomic<bool> broken = true;
    const auto first = llama_server([](const std::string& prompt) {
      return std::string(prompt == "who\n" ? R"({"content": "the old man"})" : R"({"content": "here"})");
    });
    const auto second = llama_server([&](const std::string&) { return std::string(broken ? "nonsense" : R"({"content": "the old man"})"); });
    EvaluateConfig config;
    config.latency = false, config.base = "a";
    config.runtime["a"].url = first->address(), config.runtime["b"].url = second->address(), config.runtime["b"].of = "a";
    StageRun stopped = evaluation_in(folder, task);
    EXPECT_THROW(run_evaluate(stopped, config), Error);
    broken = false;
    run_evaluate(stopped, config);
    const Json taken_up = read_json(stopped.out / "report.json")["artifacts"]["b"];
    StageRun whole = evaluation_in(folder, task);
    whole.out = folder / "out2", whole.work = folder / "work2";
    make_folder(whole.out), make_folder(whole.work);
    run_evaluate(whole, config);
    EXPECT_EQ(to_line(taken_up), to_line(read_json(whole.out / "report.json")["artifacts"]["b"]));
    EXPECT_EQ(taken_up["agreement"]["same_answers"]["value"], 0.5);
    EXPECT_TRUE(taken_up["comparison"]["differences"].contains(task.kind == "text" ? "rouge_l" : "accuracy"));
  }
}

TEST(Evaluate, ABaseOfAnotherVocabularyAndADamagedFileLeaveTheRest) {
  TestFolder folder;
  const fs::path base = train_small_model(folder.path(), "base", 300), other = train_small_model(folder.path(), "other", 290);
  fs::copy(base, folder / "damaged", fs::copy_options::recursive);
  const std::string weights = read_file(base / "model.safetensors");
  write_file(folder / "damaged" / "model.safetensors", weights.substr(0, weights.size() - 5));
  write_file(folder / "test.jsonl", "{\"text\": \"The 3th parcel\", \"label\": \"late\"}\n{\"text\": \"The 2th parcel\", \"label\": \"late\"}\n");
  TaskConfig task;
  task.name = "t", task.labels = {"late", "early"}, task.test = (folder / "test.jsonl").string();
  EvaluateConfig config;
  config.latency = false, config.base = "base", config.text = "text.txt", config.ctx = 64;
  config.of = {"damaged", "other", "base"};
  StageRun run = evaluation_in(folder, task);
  for (size_t i = 0; i < config.of.size(); ++i) run.inputs[str("of[", i, "]")] = folder / config.of[i];
  run.inputs["base"] = base, run.inputs["text"] = folder / "text.txt";
  std::string said;
  try {
    run_evaluate(run, config);
  } catch (const Error& error) {
    said = error.what();
    EXPECT_EQ(error.faults().size(), 2u);
  }
  EXPECT_NE(said.find("damaged: "), std::string::npos) << said;
  EXPECT_NE(said.find("other: KL of other to the base, expected the base's tokenizer, received another"), std::string::npos) << said;
  const Json artifacts = read_json(folder.path() / "report.partial" / "report.json")["artifacts"];
  // What the other vocabulary has nothing to do with was measured, and the base whole.
  for (const char* id : {"other", "base"}) {
    EXPECT_GT(artifacts[id]["perplexity"]["value"].get<double>(), 1) << id;
    EXPECT_EQ(artifacts[id]["tasks"]["t"]["accuracy"]["n"], 2) << id;
  }
  EXPECT_FALSE(artifacts["other"].contains("kld"));
  EXPECT_NEAR(artifacts["base"]["kld"]["mean"].get<double>(), 0, 1e-9);
  EXPECT_TRUE(artifacts["other"].contains("comparison")) << "though its base was measured after it";
  EXPECT_NE(to_line(artifacts["other"]["notes"]).find("all 2 rows of the test set have the label 'late'"), std::string::npos);
  // Mended, it goes on: what was whole is kept.
  fs::remove_all(folder / "damaged");
  fs::copy(base, folder / "damaged", fs::copy_options::recursive);
  config.of = {"damaged", "base"};
  run.inputs["of[1]"] = base;
  run_evaluate(run, config);
  const Json report = read_json(run.out / "report.json")["artifacts"];
  EXPECT_EQ(report["base"]["kld"], artifacts["base"]["kld"]);
  EXPECT_NEAR(report["damaged"]["kld"]["mean"].get<double>(), 0, 1e-9);
}

TEST(Evaluate, PricesWithoutADateAreRefusedBeforeAnythingIsMeasured) {
  TestFolder folder;
  write_file(folder / "test.jsonl", "{\"text\": \"so\", \"label\": \"yes\"}\n");
  write_file(folder / "prices.yaml", "hardware: {per_hour: 1.5}\n");
  TaskConfig task;
  task.name = "t", task.labels = {"yes", "no"}, task.test = (folder / "test.jsonl").string();
  std::atomic<int> asked = 0;
  const auto server = llama_server([&](const std::string&) { return ++asked, std::string(R"({"content": "yes"})"); });
  EvaluateConfig config;
  config.latency = false;
  config.runtime["a"].url = server->address();
  StageRun run = evaluation_in(folder, task);
  run.inputs["prices"] = folder / "prices.yaml";
  std::string said;
  try {
    run_evaluate(run, config);
  } catch (const Error& error) {
    said = error.what();
  }
  EXPECT_NE(said.find("date"), std::string::npos) << said;
  EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  EXPECT_EQ(asked, 0);
}

}  // namespace
}  // namespace attar
