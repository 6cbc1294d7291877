#include "eval/runtime.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "data_path.h"
#include "http_server.h"

namespace attar {
namespace {

/// A server of one model; `answer` gives the body of what is posted.
std::unique_ptr<HttpTestServer> model_server(const std::string& owner,
                                             std::function<ServedAnswer(const std::string& path, const Json& question)> answer) {
  return std::make_unique<HttpTestServer>([owner, answer](const ServedRequest& request) -> ServedAnswer {
    if (request.method == "GET") {
      ServedAnswer list;
      list.body = to_line(Json{{"data", {{{"id", "small"}, {"owned_by", owner}}}}});
      return list;
    }
    return answer(request.path, parse_json(request.body, "request"));
  });
}

ServedAnswer body(const Json& value) {
  ServedAnswer out;
  out.body = to_line(value);
  return out;
}

RuntimeConfig asking(const HttpTestServer& server, const std::string& api = "auto") {
  RuntimeConfig out;
  out.url = server.address(), out.api = api, out.attempts = 2, out.concurrency = 3;
  return out;
}

TaskConfig yes_no() {
  TaskConfig task;
  task.name = "t", task.labels = {"yes", "no"}, task.test = "test.jsonl";
  return task;
}

std::vector<TaskExample> questions() {
  return {{"is it so\n", 0, 1, "yes"}, {"is it not\n", 1, 2, "no"}, {"is it\n", 1, 3, "no"}};
}

std::string sentence_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.faults().size(), 1u);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "";
}

TEST(Runtime, LlamaServersAreHeldToTheLabelsByAGrammar) {
  const auto server = model_server("llamacpp", [](const std::string& path, const Json& question) {
    EXPECT_EQ(path, "/completion");
    EXPECT_EQ(question["grammar"], "root ::= \"yes\" | \"no\"");
    EXPECT_EQ(question["temperature"], 0.0);
    EXPECT_EQ(question["repeat_penalty"], 1.0);
    return body({{"content", question["prompt"].get<std::string>().find("not") != std::string::npos ? "no" : "yes"}});
  });
  const TaskResult result = Runtime(asking(*server)).evaluate(yes_no(), questions());
  EXPECT_EQ(result.method, "grammar");
  EXPECT_EQ(result.predicted, (std::vector<int64_t>{0, 1, 0}));
  EXPECT_NEAR(result.to_json()["accuracy"]["value"].get<double>(), 2.0 / 3, 1e-12);
  EXPECT_EQ(answers_grammar({"a\"b\\", "x\ny"}), "root ::= \"a\\\"b\\\\\" | \"x\\ny\"");
  EXPECT_LE(server->most_at_once(), 3);
}

TEST(Runtime, EchoedLogProbabilitiesDecide) {
  // Words of three characters as tokens; the label's first token is likelier after the right question.
  const auto server = model_server("vllm", [](const std::string&, const Json& question) {
    EXPECT_TRUE(question["echo"].get<bool>());
    const auto text = question["prompt"].get<std::string>();
    Json tokens = Json::array(), values = Json::array();
    for (size_t at = 0; at < text.size(); at += 3) {
      const std::string token = text.substr(at, 3);
      tokens.push_back(token);
      const bool is_no = text.ends_with("no"), wants_no = text.find("not") != std::string::npos;
      values.push_back(at == 0 ? Json() : Json(is_no == wants_no ? -0.25 : -2.0));
    }
    tokens.push_back(" more"), values.push_back(-9.0);
    return body({{"model", "small"}, {"choices", {{{"text", text + " more"}, {"logprobs", {{"tokens", tokens}, {"token_logprobs", values}}}}}}});
  });
  const TaskResult result = Runtime(asking(*server)).evaluate(yes_no(), questions());
  EXPECT_EQ(result.method, "likelihood");
  EXPECT_EQ(result.predicted, (std::vector<int64_t>{0, 1, 0}));
  // "is it so\n" is nine bytes: "yes" is one token of its own; "is it not\n" ten: "\nno" reaches over the end and counts.
  EXPECT_NEAR(result.likelihoods[0][0], -0.25, 1e-12);
  EXPECT_NEAR(result.likelihoods[1][1], -0.25, 1e-12);
  EXPECT_TRUE(result.to_json().contains("brier"));
}

TEST(Runtime, LabelsInsideLabelsAreWritten) {
  const auto server = model_server("vllm", [](const std::string&, const Json& question) {
    EXPECT_FALSE(question.contains("echo"));
    EXPECT_EQ(question["stop"][0], "\n");
    return body({{"choices", {{{"text", " no\n"}}}}});
  });
  TaskConfig task = yes_no();
  task.labels = {"yes", "no", "not at all"};
  const TaskResult result = Runtime(asking(*server)).evaluate(task, questions());
  EXPECT_EQ(result.method, "matched");
  EXPECT_EQ(result.predicted, (std::vector<int64_t>{1, 1, 1}));
}

TEST(Runtime, ChatsAreToldWhatToDoAndSilenceIsCounted) {
  const auto server = model_server("openai", [](const std::string& path, const Json& question) {
    EXPECT_EQ(path, "/v1/chat/completions");
    EXPECT_NE(question["messages"][0]["content"].get<std::string>().find("yes, no"), std::string::npos);
    const auto prompt = question["messages"][1]["content"].get<std::string>();
    const Json content = prompt == "is it so\n" ? Json("Yes.") : prompt == "is it\n" ? Json() : Json("perhaps");
    return body({{"choices", {{{"message", {{"content", content}}}}}}});
  });
  const TaskResult result = Runtime(asking(*server, "chat")).evaluate(yes_no(), questions());
  EXPECT_EQ(result.predicted, (std::vector<int64_t>{0, 2, 2}));
  EXPECT_EQ(result.details()["unanswered"], 1);
  EXPECT_EQ(result.details()["unmatched"], 2);
  EXPECT_EQ(result.notes.size(), 3u);
  EXPECT_EQ(result.details()["confidence"], "not given by this server");
  EXPECT_TRUE(result.confidence.empty());
  EXPECT_FALSE(result.to_json().contains("ece"));
  EXPECT_NE(sentence_of([&] { Runtime{asking(*server)}; }).find("--api completions or chat"), std::string::npos);
}

/// What each kind of server says of the tokens "y", "es" and of the end that follows them.
Json sure_answer(const std::string& api, double first, double second) {
  const Json tokens = {"y", "es", "\n", ""}, values = {first, second, -0.5, -0.5};
  Json listed = Json::array();
  for (size_t i = 0; i < tokens.size(); ++i) listed.push_back({{"token", tokens[i]}, {"logprob", values[i]}, {"top_logprobs", Json::array()}});
  if (api == "llama") return {{"content", "yes"}, {"completion_probabilities", listed}};
  if (api == "chat") return {{"choices", {{{"message", {{"content", "yes"}}}, {"logprobs", {{"content", listed}}}}}}};
  return {{"choices", {{{"text", "yes"}, {"logprobs", {{"tokens", tokens}, {"token_logprobs", values}}}}}}};
}

TEST(Runtime, AnAnswersLogProbabilitiesAreItsConfidence) {
  for (const char* api : {"llama", "chat", "completions"}) {
    SCOPED_TRACE(api);
    const auto server = model_server("openai", [api](const std::string&, const Json& question) {
      EXPECT_TRUE(question.contains("n_probs") || question.contains("logprobs"));
      const Json shown = question.contains("prompt") ? question["prompt"] : question["messages"][1]["content"];
      const bool sure = shown.get<std::string>().find("so") != std::string::npos;
      return body(sure_answer(api, sure ? -0.1 : -1.0, -0.2));
    });
    const Runtime runtime(asking(*server, api));
    const TaskResult result = runtime.evaluate(yes_no(), questions());
    // Tokens behind the answer are not of it.
    ASSERT_EQ(result.confidence.size(), 3u);
    EXPECT_NEAR(result.confidence[0], std::exp(-0.3), 1e-12);
    EXPECT_NEAR(result.confidence[1], std::exp(-1.2), 1e-12);
    const Json measured = result.to_json();
    // "yes" is right once: by its probability, and wrong twice.
    const double right = std::exp(-0.3), wrong = std::exp(-1.2);
    EXPECT_NEAR(measured["answer_brier"]["value"].get<double>(), ((1 - right) * (1 - right) + 2 * wrong * wrong) / 3, 1e-12);
    EXPECT_NEAR(measured["ece"]["value"].get<double>(), ((1 - right) + 2 * wrong) / 3, 1e-12) << "two bins";
    EXPECT_EQ(result.details()["reliability"].size(), 15u);
    EXPECT_FALSE(result.details().contains("confidence"));
    // Free writing is as sure as its tokens are in the mean.
    TaskConfig text = yes_no();
    text.kind = "text";
    std::vector<TaskExample> example = {{"is it so\n", 0, 1, "yes"}};
    example[0].accepted = {"yes"};
    const TaskResult written = runtime.evaluate(text, example);
    ASSERT_EQ(written.confidence.size(), 1u);
    EXPECT_NEAR(written.confidence[0], std::exp(-0.15), 1e-12);
  }
}

TEST(Runtime, AServerThatRefusesLogProbabilitiesIsAskedWithout) {
  TestFolder folder;
  std::atomic<int> refused = 0, asked = 0;
  const auto server = model_server("openai", [&](const std::string&, const Json& question) {
    ++asked;
    if (question.contains("logprobs")) {
      ++refused;
      ServedAnswer out = body({{"error", {{"message", "logprobs is not supported by this model"}}}});
      out.status = 400;
      return out;
    }
    return body({{"choices", {{{"message", {{"content", "yes"}}}}}}});
  });
  const Runtime runtime(asking(*server, "chat"));
  const TaskResult result = runtime.evaluate(yes_no(), questions(), folder / "answers.jsonl");
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(result.predicted, (std::vector<int64_t>{0, 0, 0}));
  EXPECT_EQ(result.details()["confidence"], "not given by this server");
}

TEST(Runtime, SomeAnswersWithoutLogProbabilitiesAreNoCalibration) {
  for (const Json& spoiled : std::vector<Json>{{{"content", "yes"}},
                                               {{"content", "yes"}, {"completion_probabilities", {{{"token", "yes"}, {"logprob", "low"}}}}},
                                               {{"content", "yes"}, {"completion_probabilities", {{{"content", "yes"}, {"probs", Json::array()}}}}},
                                               {{"content", "yes"}, {"completion_probabilities", nullptr}},
                                               {{"content", "yes"}, {"completion_probabilities", {{{"token", "yes"}, {"logprob", 2.5}}}}}}) {
    const auto server = model_server("llamacpp", [&](const std::string&, const Json& question) {
      return body(question["prompt"] == "is it\n" ? spoiled : sure_answer("llama", -0.1, -0.2));
    });
    const TaskResult result = Runtime(asking(*server)).evaluate(yes_no(), questions());
    EXPECT_TRUE(result.confidence.empty()) << to_line(spoiled);
    EXPECT_EQ(result.details()["confidence"], "not given by this server");
    EXPECT_EQ(result.predicted, (std::vector<int64_t>{0, 0, 0}));
  }
}

TEST(Runtime, OtherKindsAreWritten) {
  TestFolder folder;
  write_file(folder / "s.json", R"({"type": "object", "properties": {"id": {"type": "string"}}})");
  TaskConfig task = yes_no();
  task.schema = (folder / "s.json").string();
  const auto server = model_server("llamacpp", [](const std::string&, const Json& question) {
    if (question.contains("json_schema")) return body({{"content", R"({"id": "x"})"}});
    if (question.contains("grammar")) return body({{"content", "second"}});
    return body({{"content", question["n_predict"] == 16 ? " home. She" : "the answer. STOP more"}});
  });
  const Runtime runtime(asking(*server));
  task.kind = "extraction";
  EXPECT_EQ(runtime.evaluate(task, {{"p", 0, 1, R"({"id":"x"})"}}).correct(), std::vector<double>{1});
  task.kind = "multiple_choice";
  EXPECT_EQ(runtime.evaluate(task, {{"p", 1, 1, "second", {"first", "second"}}}).correct(), std::vector<double>{1});
  task.kind = "next_word";
  EXPECT_EQ(runtime.evaluate(task, {{"she went", 0, 1, " home"}, {"p", 0, 2, " hom"}}).correct(), (std::vector<double>{1, 0}));
  task.kind = "text";
  task.stop = {"STOP"};
  std::vector<TaskExample> example = {{"p", 0, 1, "the answer."}};
  example[0].accepted = {"the answer."};
  EXPECT_EQ(runtime.evaluate(task, example).correct(), std::vector<double>{1});
}

TEST(Runtime, GarbageIsOneSentence) {
  for (const auto& [owner, garbage, words] : std::vector<std::array<std::string, 3>>{
           {"llamacpp", "<html>", "/completion"},
           {"llamacpp", "[]", "an answer with content"},
           {"llamacpp", R"({"content": 3})", "expected text"},
           {"llamacpp", R"({"error": "out of memory"})", "out of memory"},
           {"vllm", R"({"choices": []})", "an object with choices"},
           {"vllm", R"({"choices": [{"text": "x"}]})", "--api completions"},
           {"vllm", R"({"choices": [{"logprobs": {"tokens": ["another", "text"], "token_logprobs": [-1, -1]}}]})", "those of the text that was sent"},
           {"vllm", R"({"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": []}}]})", "lists of one length"}}) {
    const auto server = model_server(owner, [garbage = garbage](const std::string&, const Json&) {
      ServedAnswer out;
      out.body = garbage;
      return out;
    });
    const Runtime runtime(asking(*server));
    const std::string said = sentence_of([&] { runtime.evaluate(yes_no(), questions()); });
    EXPECT_NE(said.find(words), std::string::npos) << garbage << ": " << said;
  }
  RuntimeConfig none;
  none.url = "file:///etc";
  EXPECT_NE(sentence_of([&] { Runtime{none}; }).find("http://host:port"), std::string::npos);
}

TEST(Runtime, WhatWasAnsweredIsNotAskedAgain) {
  TestFolder folder;
  std::atomic<int> asked = 0;
  std::atomic<bool> broken = true;
  const auto server = model_server("llamacpp", [&](const std::string&, const Json& question) {
    ++asked;
    if (broken && question["prompt"] == "is it\n") {
      ServedAnswer out;
      out.body = "nonsense";
      return out;
    }
    return body({{"content", "yes"}});
  });
  RuntimeConfig config = asking(*server);
  config.concurrency = 1;
  const Runtime runtime(config);
  EXPECT_NE(sentence_of([&] { runtime.evaluate(yes_no(), questions(), folder / "answers.jsonl"); }), "");
  EXPECT_EQ(asked, 3);
  broken = false;
  const std::string kept = read_file(folder / "answers.jsonl");
  write_file(folder / "answers.jsonl", kept + "{\"torn");
  runtime.evaluate(yes_no(), questions(), folder / "answers.jsonl");
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(runtime.evaluate(yes_no(), questions(), folder / "answers.jsonl").predicted, (std::vector<int64_t>{0, 0, 0}));
  EXPECT_EQ(asked, 4);
  // What is no answer in the file, by whatever hand, is asked again.
  std::string spoiled = read_file(folder / "answers.jsonl");
  spoiled.replace(spoiled.find("\"text\""), 6, "\"txet\"");
  write_file(folder / "answers.jsonl", spoiled);
  EXPECT_EQ(runtime.evaluate(yes_no(), questions(), folder / "answers.jsonl").predicted, (std::vector<int64_t>{0, 0, 0}));
  EXPECT_EQ(asked, 5);
}

TEST(Runtime, AgreementIsAboutAnswersNotTruth) {
  TaskResult a, b;
  a.truth = b.truth = {0, 0, 1};
  a.predicted = {0, 1, 1}, b.predicted = {0, 1, 0};
  EXPECT_NEAR(answer_agreement(a, b).value, 2.0 / 3, 1e-12);
  a.kind = b.kind = "text";
  a.written = {"x", "y ", "z"}, b.written = {" x", "y", "w"};
  EXPECT_NEAR(answer_agreement(a, b).value, 2.0 / 3, 1e-12);
}

}  // namespace
}  // namespace attar
