// Texts from a server: what is asked, what becomes of the answers, and what a false answer is called.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "http_server.h"
#include "stages/run.h"

namespace attar {
namespace {

/// Prompts, a tokenizer and a server that writes.
class ServerTexts : public ::testing::Test {
 protected:
  void SetUp() override {
    set_up_machine(1);
    std::string mail, text, chat;
    for (int i = 0; i < 24; ++i) {
      mail += Json{{"prompt", str("parcel ", i)}}.dump() + "\n";
      text += str("The ", i % 7, "th parcel of street ", i % 11, " was late and nobody knew why.\n\n");
      const Json question = {{"role", "user"}, {"content", str("where is ", i, "?")}}, answer = {{"role", "assistant"}, {"content", "old"}};
      chat += Json{{"messages", Json::array({question, answer})}}.dump() + "\n";
    }
    write_file(folder_ / "mail.jsonl", mail);
    write_file(folder_ / "chat.jsonl", chat);
    write_file(folder_ / "text.txt", text);
    run("train_tokenizer", {{"data", (folder_ / "text.txt").string()}, {"vocab_size", 300}}, "tokens");
  }

  /// An OpenAI-compatible server that repeats what it was asked; `change` may spoil its answers.
  HttpTestServer::Handler writer(const std::function<void(const Json&, ServedAnswer&)>& change = {}) {
    return [this, change](const ServedRequest& request) {
      ServedAnswer out;
      if (request.path == "/v1/models") {
        out.body = Json{{"data", Json::array({Json{{"id", "big"}, {"owned_by", "somebody"}}})}}.dump();
        return out;
      }
      const Json asked = Json::parse(request.body);
      {
        const std::lock_guard lock(guard_);
        asked_.insert(request.path + " " + (asked.contains("prompt") ? asked["prompt"] : asked["messages"]).dump());
        seeds_.insert(asked["seed"].get<int64_t>());
      }
      const bool chat = request.path == "/v1/chat/completions";
      const std::string said = "answer to " + (chat ? asked["messages"].back()["content"] : asked["prompt"]).get<std::string>();
      Json choice = {{"index", 0}, {"finish_reason", said.find("parcel 5") != std::string::npos ? "length" : "stop"}};
      if (chat) choice["message"] = {{"role", "assistant"}, {"content", said}};
      else choice["text"] = said;
      out.body = Json{{"model", asked["model"]}, {"choices", Json::array({choice})}}.dump();
      if (change) change(asked, out);
      return out;
    };
  }

  Json configuration(const HttpTestServer& server, const std::string& data) const {
    return {{"teacher", server.address()}, {"tokens", (folder_ / "tokens").string()}, {"data", {{"path", (folder_ / data).string()}, {"seq", 32}}},
            {"max_tokens", 16}, {"shard_prompts", 4}, {"prefix", 5}, {"server", {{"attempts", 2}, {"concurrency", 3}}}};
  }
  fs::path run(const std::string& kind, const Json& configuration, const std::string& out) {
    LoneStage stage;
    stage.kind = kind, stage.configuration = configuration, stage.out = folder_ / out, stage.seed = 3;
    run_lone_stage(stage);
    return stage.out;
  }
  std::string refused(const Json& configuration) {
    try {
      run("synthesize", configuration, "refused");
    } catch (const Error& error) {
      EXPECT_FALSE(fs::exists(folder_ / "refused"));
      return error.what();
    }
    return "no error";
  }
  std::vector<Json> rows(const fs::path& file) const {
    std::vector<Json> out;
    std::istringstream in(read_file(file));
    for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line));
    return out;
  }

  TestFolder folder_;
  std::mutex guard_;
  std::set<std::string> asked_;
  std::set<int64_t> seeds_;
};

TEST_F(ServerTexts, AnswersBecomeRowsInThePromptsOrder) {
  HttpTestServer server(writer());
  const fs::path out = run("synthesize", configuration(server, "mail.jsonl"), "written");
  const std::vector<Json> written = rows(out / "train.jsonl");
  // "parcel 5" was cut off by max_tokens.
  ASSERT_EQ(written.size(), 23u);
  EXPECT_EQ(written[0], (Json{{"prompt", "parcel 0"}, {"answer", "answer to parcel 0"}}));
  EXPECT_EQ(written[5]["prompt"], "parcel 6");
  EXPECT_EQ(asked_.count("/v1/completions \"parcel 7\""), 1u);
  EXPECT_EQ(seeds_.size(), 24u) << "every text draws for itself";
  const Json facts = read_json(out / "manifest.json")["facts"];
  EXPECT_EQ(facts["server"]["model"], "big");
  EXPECT_EQ(facts["dropped"]["unfinished"], 1);
  EXPECT_GT(facts["tokens"].get<int64_t>(), 23);
}

TEST_F(ServerTexts, ChatsAreAskedAsChatsAndTextsAreContinued) {
  HttpTestServer server(writer());
  const std::vector<Json> chats = rows(run("synthesize", configuration(server, "chat.jsonl"), "chats") / "train.jsonl");
  ASSERT_EQ(chats.size(), 24u);
  EXPECT_EQ(chats[3]["messages"].size(), 2u);
  EXPECT_EQ(chats[3]["messages"][1]["content"], "answer to where is 3?") << "the last answer is written anew";
  const std::vector<Json> texts = rows(run("synthesize", configuration(server, "text.txt"), "texts") / "train.jsonl");
  ASSERT_FALSE(texts.empty());
  const auto text = texts[0]["text"].get<std::string>();
  EXPECT_TRUE(text.starts_with("The")) << text;
  EXPECT_NE(text.find("answer to The"), std::string::npos) << text;
}

TEST_F(ServerTexts, WhatIsWrittenIsKeptAndNotAskedAgain) {
  std::atomic<int> left{13};
  std::atomic<bool> broken{true};
  HttpTestServer server(writer([&](const Json&, ServedAnswer& answer) {
    if (broken && --left < 0) answer.status = 404, answer.body = "gone";
  }));
  const Json wanted = configuration(server, "mail.jsonl");
  EXPECT_THROW(run("synthesize", wanted, "resumed"), Error);
  broken = false;
  const int64_t before = server.requests();
  run("synthesize", wanted, "resumed");
  EXPECT_LE(server.requests() - before, 1 + 16) << "the shards of 4 prompts that were whole are not asked for again";
  HttpTestServer undisturbed(writer());
  const fs::path whole = run("synthesize", configuration(undisturbed, "mail.jsonl"), "whole");
  EXPECT_EQ(read_file(folder_ / "resumed" / "train.jsonl"), read_file(whole / "train.jsonl"));
}

TEST_F(ServerTexts, FalseAnswersAreOneSentence) {
  const auto said = [&](const std::function<void(const Json&, ServedAnswer&)>& change) {
    HttpTestServer server(writer(change));
    const std::string text = refused(configuration(server, "mail.jsonl"));
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    EXPECT_NE(text.find(server.address()), std::string::npos) << text;
    return text;
  };
  const auto with = [](const std::function<void(Json&)>& edit) {
    return [edit](const Json&, ServedAnswer& answer) {
      Json body = Json::parse(answer.body);
      edit(body);
      answer.body = body.dump();
    };
  };
  EXPECT_NE(said([](const Json&, ServedAnswer& answer) { answer.send_only = 10; }).find("broke off"), std::string::npos) << "stops in mid-answer";
  EXPECT_NE(said(with([](Json& body) { body["model"] = "small"; })).find("another model"), std::string::npos);
  EXPECT_NE(said(with([](Json& body) { body["choices"] = Json::array(); })).find("choices"), std::string::npos);
  EXPECT_NE(said(with([](Json& body) { body["choices"][0]["text"] = nullptr; })).find("a text"), std::string::npos);
  EXPECT_NE(said(with([](Json& body) { body["choices"][0]["finish_reason"] = "content_filter"; })).find("finish_reason"), std::string::npos);
  EXPECT_NE(said(with([](Json& body) { body = {{"error", "too long"}}; })).find("too long"), std::string::npos);
  HttpTestServer silent(writer(with([](Json& body) { body["choices"][0]["text"] = " "; })));
  EXPECT_NE(refused(configuration(silent, "mail.jsonl")).find("23 empty"), std::string::npos);
  HttpTestServer server(writer());
  Json wanted = configuration(server, "mail.jsonl");
  wanted["server"]["model"] = "other";
  EXPECT_NE(refused(wanted).find("'other'"), std::string::npos);
  wanted = configuration(server, "mail.jsonl");
  wanted.erase("tokens");
  EXPECT_NE(refused(wanted).find("--tokenizer"), std::string::npos);
}

}  // namespace
}  // namespace attar
