#include "stages/row_order.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "report/run_log.h"
#include "stages/run.h"

namespace attar {
namespace {

/// Two texts, a tokenizer and a teacher, made once for all tests here.
class Mixtures : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_up_machine(1);
    root_ = new fs::path(fs::temp_directory_path() / ("attar_mixtures_test_" + std::to_string(::getpid())));
    fs::remove_all(*root_);
    make_folder(*root_);
    std::string mail, chat, text;
    for (int i = 0; i < 80; ++i) {
      mail +=
          Json{{"prompt", str("parcel ", i % 7, " of street ", std::string(static_cast<size_t>(i % 13), 'x'))}, {"answer", str("late by ", i % 5)}}
              .dump() +
          "\n";
      text += str("The ", i % 7, "th parcel of street ", i % 11, " was late.\n\n");
    }
    for (int i = 0; i < 40; ++i)
      chat +=
          Json{{"messages", {{{"role", "user"}, {"content", str("where is ", i, "?")}}, {{"role", "assistant"}, {"content", "on its way"}}}}}.dump() +
          "\n";
    write_file(*root_ / "mail.jsonl", mail);
    write_file(*root_ / "chat.jsonl", chat);
    write_file(*root_ / "text.txt", text);
    const std::string model = "hidden_size: 32\nintermediate_size: 64\nnum_hidden_layers: 2\nnum_attention_heads: 2\nmax_position_embeddings: 64\n";
    write_file(*root_ / "model.yaml", model);
    run("train_tokenizer", {{"data", place("text.txt")}, {"vocab_size", 300}}, "tokens");
    run("distill", {{"model", place("model.yaml")}, {"tokens", place("tokens")}, {"data", mixture()}, {"train", steps(30)}}, "teacher");
  }
  static void TearDownTestSuite() {
    fs::remove_all(*root_);
    delete root_;
  }
  static std::string place(const std::string& name) { return (*root_ / name).string(); }
  static Json steps(int64_t count) { return {{"steps", count}, {"batch", 4}, {"warmup", 1}, {"lr", 3e-3}, {"eval_every", 100}}; }
  /// One example a row; the mail twice as often as the chats.
  static Json mixture(const Json& more = Json::object()) {
    Json out = {
        {"mix", {{{"path", place("mail.jsonl")}, {"weight", 2}}, {{"path", place("chat.jsonl")}, {"weight", 1}}}}, {"seq", 64}, {"pack", false}};
    out.merge_patch(more);
    return out;
  }
  static fs::path run(const std::string& kind, const Json& configuration, const std::string& out) {
    LoneStage stage;
    stage.kind = kind, stage.configuration = configuration, stage.out = *root_ / out, stage.seed = 3;
    run_lone_stage(stage);
    return stage.out;
  }
  static Json student(const Json& data, const std::string& teacher = "teacher") {
    return {{"model", place("model.yaml")}, {"teacher", place(teacher)}, {"data", data}, {"train", steps(8)}};
  }
  static Json facts(const fs::path& artifact) { return read_manifest(artifact).facts; }
  static std::string refused(const std::string& kind, const Json& configuration) {
    try {
      run(kind, configuration, "refused");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  static fs::path* root_;
};
fs::path* Mixtures::root_ = nullptr;

TEST_F(Mixtures, ACacheServesEveryOrderOfItsRows) {
  run("capture", {{"teacher", place("teacher")}, {"data", mixture()}, {"codec", {{"kind", "full"}}}}, "cache");
  const Json first = facts(run("distill", student(mixture(), "cache"), "by_weight"));
  EXPECT_NEAR(first["mixture"][0]["share"].get<double>(), 2.0 / 3, 1e-12);
  EXPECT_EQ(first["mixture"][0]["rows"].get<int64_t>() + first["mixture"][1]["rows"].get<int64_t>(), first["rows"].get<int64_t>());
  EXPECT_LT(first["mixture"][1]["rows"].get<int64_t>(), 40) << "every part has rows held apart";
  Json even = mixture({{"mix_temperature", 4.0}});
  for (Json& part : even["mix"]) part.erase("weight");
  const Json second = facts(run("distill", student(even, "cache"), "by_size"));
  const double rows = first["mixture"][0]["rows"].get<double>(), others = first["mixture"][1]["rows"].get<double>();
  EXPECT_NEAR(second["mixture"][0]["share"].get<double>(), std::pow(rows, 0.25) / (std::pow(rows, 0.25) + std::pow(others, 0.25)), 1e-12);
  Json longer = mixture({{"seq", 32}});
  EXPECT_NE(refused("distill", student(longer, "cache")).find("rows"), std::string::npos) << "other rows";
}

TEST_F(Mixtures, TheTeachersLossFiltersAlikeLiveAndCached) {
  const Json data = mixture({{"filter", {{"drop_highest", 0.1}, {"drop_lowest", 0.2}}}});
  run("capture", {{"teacher", place("teacher")}, {"data", mixture()}, {"codec", {{"kind", "full"}}}}, "cache");
  const Json live = facts(run("distill", student(data), "filtered_live")), cached = facts(run("distill", student(data, "cache"), "filtered_cached"));
  ASSERT_EQ(live["filter"].size(), 2u);
  int64_t kept = 0;
  for (size_t part = 0; part < 2; ++part) {
    const Json& own = live["filter"][part];
    const int64_t all = own["rows_kept"].get<int64_t>() + own["dropped_highest"].get<int64_t>() + own["dropped_lowest"].get<int64_t>();
    EXPECT_EQ(own["dropped_highest"].get<int64_t>(), all / 10);
    EXPECT_EQ(own["dropped_lowest"].get<int64_t>(), all / 5);
    EXPECT_LT(own["lowest_loss"].get<double>(), own["highest_loss"].get<double>());
    EXPECT_NEAR(own["highest_loss"].get<double>(), cached["filter"][part]["highest_loss"].get<double>(), 5e-3);
    kept += own["rows_kept"].get<int64_t>();
  }
  EXPECT_EQ(live["rows_kept"].get<int64_t>(), kept);
  EXPECT_EQ(cached["rows_kept"].get<int64_t>(), kept);
}

TEST_F(Mixtures, AWarmUpBeginsWithWhatIsEasy) {
  const Json data = mixture({{"curriculum", {{"by", "teacher_loss"}, {"share", 0.5}, {"from", 0.1}}}});
  const Json made = facts(run("distill", student(data), "warmed"));
  EXPECT_EQ(made["curriculum"]["steps"], 4);
  // The order itself: rows of the first draws are the part's easiest.
  StageRun stage;
  stage.id = "x", stage.seed = 1, stage.work = *root_ / "order";
  make_folder(stage.work);
  TokenRows rows;
  rows.ids = at::ones({40, 8}, at::kInt);
  rows.learn = at::ones({40, 8}, at::kByte);
  rows.segments = at::zeros({40, 8}, at::kInt);
  rows.lengths = at::full({40}, 8, at::kInt);
  DataConfig config;
  config.curriculum = {"teacher_loss", 0.5, 0.1};
  TrainConfig train;
  train.steps = 20, train.batch = 2;
  const auto group = single_process();
  int64_t asked = 0;
  const auto losses = [&asked](int64_t first, int64_t end) {
    ++asked;
    std::vector<double> out;
    for (int64_t row = first; row < end; ++row) out.push_back(static_cast<double>((row * 7) % 40));
    return out;
  };
  const RowOrder order = row_order(stage, rows, config, train, *group, losses);
  Batch batch;
  order.source->next(batch);
  for (int64_t i = 0; i < 2; ++i) EXPECT_LT(batch.at("rows")[i].item<int64_t>() * 7 % 40, 4);
  const RowOrder again = row_order(stage, rows, config, train, *group, losses);
  EXPECT_EQ(asked, 1) << "what a killed run has scored is kept";
  EXPECT_EQ(again.fingerprint, order.fingerprint);
  again.source->seek(1);
  Batch second, same;
  order.source->next(second);
  again.source->next(same);
  EXPECT_TRUE(second.at("rows").equal(same.at("rows")));
}

TEST_F(Mixtures, WhatCannotBeIsSaid) {
  Json plain = {{"model", place("model.yaml")}, {"tokens", place("tokens")}, {"train", steps(2)}};
  plain["data"] = mixture({{"filter", {{"drop_highest", 0.1}}}});
  EXPECT_NE(refused("distill", plain).find("a teacher"), std::string::npos);
  Json full = {{"path", place("mail.jsonl")}, {"seq", 64}, {"pack", false}, {"curriculum", {{"by", "length"}}}};
  EXPECT_EQ(refused("distill", student(full)), "") << "rows of several lengths";
  std::string same;
  for (int i = 0; i < 40; ++i) same += "{\"prompt\": \"parcel\", \"answer\": \"late\"}\n";
  write_file(*root_ / "same.jsonl", same);
  full["path"] = place("same.jsonl");
  EXPECT_NE(refused("distill", student(full)).find("all alike"), std::string::npos);
  EXPECT_NE(refused("distill", student(mixture({{"curriculum", {{"by", "lenght"}}}}))).find("'length'"), std::string::npos);
  EXPECT_NE(refused("distill", student(mixture({{"filter", {{"drop_highest", 0.6}, {"drop_lowest", 0.6}}}}))).find("leave rows"), std::string::npos);
  Json half = mixture();
  half["mix"][1].erase("weight");
  EXPECT_NE(refused("distill", student(half)).find("1 of 2"), std::string::npos);
}

TEST_F(Mixtures, ATeacherWritesWhatAStudentReads) {
  Json writer = {{"teacher", place("teacher")}, {"data", {{"path", place("mail.jsonl")}, {"limit", 20}}}, {"max_tokens", 8}, {"unfinished", "keep"},
                 {"samples", 2}, {"shard_prompts", 6}, {"batch", 5}};
  const fs::path written = run("synthesize", writer, "written");
  const Json made = facts(written);
  EXPECT_EQ(made["prompts"], 20);
  const std::string rows = read_file(written / "train.jsonl");
  EXPECT_EQ(std::count(rows.begin(), rows.end(), '\n'), made["texts"].get<int64_t>());
  EXPECT_GT(made["texts"].get<int64_t>(), 20);
  EXPECT_EQ(made["texts"].get<int64_t>() + made["dropped"]["empty"].get<int64_t>() + made["dropped"]["broken"].get<int64_t>(), 40);
  const Json first = Json::parse(rows.substr(0, rows.find('\n')));
  EXPECT_TRUE(first["prompt"].get<std::string>().starts_with("parcel 0 of street")) << first;
  EXPECT_FALSE(first["answer"].get<std::string>().empty());
  // A mixture of it and of what people wrote.
  Json data = mixture();
  data["mix"][1]["path"] = written.string();
  EXPECT_EQ(facts(run("distill", student(data), "reader"))["mixture"][1]["part"], written.string());
  // Greedy texts are the same whatever the seed; drawn ones are not.
  writer["temperature"] = 0.0;
  EXPECT_NE(refused("synthesize", writer).find("samples"), std::string::npos);
  writer["samples"] = 1;
  const std::string greedy = read_file(run("synthesize", writer, "greedy") / "train.jsonl");
  writer["batch"] = 20;
  EXPECT_EQ(read_file(run("synthesize", writer, "greedy_again") / "train.jsonl"), greedy);
  // Chats and texts keep their kinds, in files of their own.
  Json both = {{"teacher", place("teacher")}, {"max_tokens", 6}, {"prefix", 5}, {"unfinished", "keep"},
               {"data", {{"mix", {{{"path", place("chat.jsonl")}}, {{"path", place("text.txt")}}}}, {"seq", 40}}}};
  const fs::path kinds = run("synthesize", both, "kinds");
  const std::string chats = read_file(kinds / "train-0.jsonl"), texts = read_file(kinds / "train-1.jsonl");
  EXPECT_EQ(Json::parse(chats.substr(0, chats.find('\n')))["messages"].size(), 2u);
  EXPECT_TRUE(Json::parse(texts.substr(0, texts.find('\n')))["text"].get<std::string>().starts_with("The 0th")) << texts.substr(0, 80);
  both["max_tokens"] = 64;
  EXPECT_NE(refused("synthesize", both).find("context of 64"), std::string::npos);
}

}  // namespace
}  // namespace attar
