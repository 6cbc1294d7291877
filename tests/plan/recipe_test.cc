#include "plan/recipe.h"

#include <fstream>

#include "base/check.h"
#include "data_path.h"
#include "plan/estimate.h"

namespace attar {
namespace {

class RecipeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::make_unique<TestFolder>();
    put("text.jsonl", "{\"text\": \"hello\", \"label\": \"a\"}\n");
    put("model.yaml", "hidden_size: 64\nnum_attention_heads: 4\n");
    put("task.yaml", "name: t\ntrain: text.jsonl\ntest: text.jsonl\n");
  }
  void put(const std::string& name, const std::string& content) { std::ofstream(*folder_ / name) << content; }
  Recipe load(const std::string& text, const std::vector<std::string>& overrides = {}) {
    put("r.yaml", text);
    return load_recipe(*folder_ / "r.yaml", overrides);
  }
  std::string faults(const std::string& text) {
    try {
      load(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::unique_ptr<TestFolder> folder_;
};

const char kGood[] =
    "name: r\ntask: task.yaml\nstages:\n"
    "  student: {kind: distill, model: model.yaml, tokens: tok, teacher: big, train: {steps: 5}}\n"
    "  big: {kind: distill, model: model.yaml, tokens: tok}\n"
    "  tok: {kind: train_tokenizer, vocab_size: 300}\n";

TEST_F(RecipeTest, PutsInputsFirst) {
  const Recipe recipe = load(kGood);
  ASSERT_EQ(recipe.stages.size(), 3u);
  EXPECT_EQ(recipe.stages[0].id, "tok");
  EXPECT_EQ(recipe.stages[1].id, "big");
  EXPECT_EQ(recipe.stages[2].id, "student");
  EXPECT_EQ(recipe.stages[2].effective["train"]["steps"], 5);
  EXPECT_EQ(recipe.stages[1].effective["train"]["steps"], 1000);
}

TEST_F(RecipeTest, ReportsAllFaultsTogether) {
  const std::string text = faults(
      "name: r\ntaks: x\nstages:\n  a: {kind: distill, model: nowhere.yaml, trian: {steps: 1}}\n  b: {kind: distil, model: a}\n"
      "  c: {kind: prune, model: a, ffn: much}\ngates:\n  zzz.kld: {at_most: 1}\n  a.kld: {}\n");
  for (const char* part : {"taks", "did you mean 'task'", "nowhere.yaml", "trian", "'train'", "distil", "'distill'", "ffn", "much", "zzz", "at_least or at_most"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  EXPECT_NE(text.find("r.yaml:4"), std::string::npos) << text;
}

TEST_F(RecipeTest, RefusesACircleAndAWrongKind) {
  EXPECT_NE(faults("task: task.yaml\nstages:\n  a: {kind: prune, model: b}\n  b: {kind: prune, model: a}\n").find("circle"), std::string::npos);
  EXPECT_NE(faults("task: task.yaml\nstages:\n  t: {kind: train_tokenizer}\n  b: {kind: prune, model: t}\n").find("gives a model"), std::string::npos);
}

TEST_F(RecipeTest, KeysFollowWhatDecidesTheResult) {
  const Recipe one = load(kGood), same = load(kGood), other = load(kGood, {"stages.big.train.steps=7"});
  EXPECT_EQ(one.find("student")->key, same.find("student")->key);
  EXPECT_EQ(one.find("tok")->key, other.find("tok")->key);
  EXPECT_NE(one.find("big")->key, other.find("big")->key);
  EXPECT_NE(one.find("student")->key, other.find("student")->key) << "an input changed";
  EXPECT_NE(one.find("tok")->key, load(kGood, {"seed=9"}).find("tok")->key);
  put("text.jsonl", "{\"text\": \"bye\", \"label\": \"a\"}\n");
  EXPECT_NE(one.find("tok")->key, load(kGood).find("tok")->key) << "the data's bytes changed";
}

TEST_F(RecipeTest, SharedDataHoldsForEveryStageAndIsOverridden) {
  const Recipe recipe = load("task: task.yaml\ndata: {seq: 32, learn: all}\nstages:\n  t: {kind: train_tokenizer}\n"
                             "  a: {kind: distill, model: model.yaml, tokens: t}\n  b: {kind: distill, model: a, data: {seq: 16}}\n");
  EXPECT_EQ(recipe.find("a")->effective["data"]["seq"], 32);
  EXPECT_EQ(recipe.find("b")->effective["data"]["seq"], 16);
  EXPECT_EQ(recipe.find("b")->effective["data"]["learn"], "all");
}

TEST_F(RecipeTest, ManifestsFindWhatChanged) {
  const Recipe recipe = load(kGood);
  const fs::path run = *folder_ / "run", place = run / "tok";
  std::string reason;
  EXPECT_EQ(stage_state(recipe.stages[0], run, reason), StageState::needed);
  make_folder(place);
  write_file(place / "tokenizer.model", "bytes");
  Manifest manifest;
  manifest.kind = "train_tokenizer", manifest.name = "tok", manifest.key = recipe.stages[0].key;
  write_manifest(place, manifest);
  EXPECT_EQ(stage_state(recipe.stages[0], run, reason), StageState::done) << reason;
  EXPECT_TRUE(verify_manifest(place, false).empty());
  write_file(place / "tokenizer.model", "bytez");
  const auto faults = verify_manifest(place, false);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_NE(faults[0].what.find("tokenizer.model"), std::string::npos);
  EXPECT_EQ(stage_state(load(kGood, {"stages.tok.vocab_size=301"}).stages[0], run, reason), StageState::needed);
  EXPECT_EQ(reason, "configuration or inputs changed");
}

TEST_F(RecipeTest, EstimatesCountParametersExactly) {
  const Recipe recipe = load(kGood);
  const auto estimates = estimate(recipe, *folder_ / "run");
  ASSERT_EQ(estimates.size(), 3u);
  ModelSpec spec = spec_from_config(Json::parse(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 704, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": true, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512, "hidden_act": "silu"})"), "test");
  EXPECT_EQ(estimates[1].parameters, parameter_count(spec));
  EXPECT_GT(estimates[2].flops, estimates[2].tokens * 6.0 * 1e5);
}

TEST_F(RecipeTest, SchemaNamesEveryKind) {
  const std::string text = recipe_schema().dump();
  for (const auto& [kind, help] : stage_kinds()) EXPECT_NE(text.find("\"const\":\"" + kind + "\""), std::string::npos);
}

}  // namespace
}  // namespace attar
