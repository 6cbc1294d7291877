#include "plan/sweep.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "base/check.h"
#include "data_path.h"
#include "plan/estimate.h"
#include "plan/recipe.h"

namespace attar {
namespace {

class SweepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::make_unique<TestFolder>();
    put("text.jsonl", "{\"text\": \"hello\", \"label\": \"a\"}\n");
    for (const char* name : {"small.yaml", "large.yaml", "teacher.yaml"}) put(name, "hidden_size: 64\nnum_attention_heads: 4\n");
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
  std::vector<std::string> ids(const Recipe& recipe) {
    std::vector<std::string> out;
    for (const Stage& stage : recipe.stages) out.push_back(stage.id);
    std::sort(out.begin(), out.end());
    return out;
  }
  std::unique_ptr<TestFolder> folder_;
};

const std::string kStages =
    "name: r\ntask: task.yaml\nstages:\n"
    "  tok: {kind: train_tokenizer, vocab_size: 300}\n"
    "  teacher: {kind: distill, model: teacher.yaml, tokens: tok}\n"
    "  logits: {kind: capture, teacher: teacher}\n"
    "  student: {kind: distill, model: small.yaml, teacher: logits, train: {steps: 5}}\n"
    "  gguf: {kind: export, model: student, format: gguf}\n"
    "  report: {kind: evaluate, of: [teacher, gguf], base: teacher}\n"
    "  router: {kind: route, of: report, small: gguf, large: teacher}\n"
    "gates:\n  gguf.tasks.t.accuracy: {at_least: 0.9, within: {of: student, margin: 0.01}}\n";
const std::string kTwoByFour = kStages + "sweep:\n  student.model: [small.yaml, large.yaml]\n  gguf.type: [f16, q8_0, q4_0, q4_k_m]\n";

TEST_F(SweepTest, AStageMayHaveSeedsOfItsOwn) {
  const Recipe recipe = load(kStages + "sweep: {student.seed: [1, 2, 3]}\nseed: 7\n");
  EXPECT_EQ(ids(recipe).size(), 4u + 3 + 3 + 3) << "students, files and routers thrice; the rest once";
  std::set<std::string> keys;
  for (const Stage& stage : recipe.stages) {
    const bool student = stage.id.starts_with("student");
    EXPECT_EQ(stage.seed.has_value(), student) << stage.id;
    EXPECT_EQ(recipe.effective["stages"][stage.id].contains("seed"), student) << stage.id;
    if (student) keys.insert(stage.key);
  }
  EXPECT_EQ(keys.size(), 3u) << "another seed is another result";
  // A seed that is the recipe's changes nothing.
  const Recipe plain = load(kStages + "seed: 7\n"), same = load(kStages + "seed: 7\n", {"stages.student.seed=7"});
  EXPECT_EQ(plain.find("student")->key, same.find("student")->key);
  EXPECT_NE(plain.find("student")->key, load(kStages + "seed: 7\n", {"stages.student.seed=8"}).find("student")->key);
  EXPECT_NE(faults(kStages + "sweep: {student.seed: [1, x]}\n").find("a whole number from 0"), std::string::npos);
}

TEST_F(SweepTest, TwoStudentsByFourTypesShareWhatTheyCan) {
  const Recipe recipe = load(kTwoByFour);
  const auto all = ids(recipe);
  // Once: tokenizer, teacher, logits, report; two students; eight files and routers.
  EXPECT_EQ(all.size(), 4u + 2 + 8 + 8);
  for (const char* id :
       {"tok", "teacher", "logits", "student-small", "student-large", "gguf-small-f16", "gguf-large-q4_k_m", "router-small-q8_0", "report"})
    EXPECT_NE(std::find(all.begin(), all.end(), id), all.end()) << id;
  EXPECT_EQ(recipe.find("gguf-large-q4_0")->effective["model"], "student-large");
  EXPECT_EQ(recipe.find("gguf-large-q4_0")->effective["type"], "q4_0");
  EXPECT_EQ(recipe.find("router-large-q4_0")->effective["small"], "gguf-large-q4_0");
  EXPECT_EQ(recipe.find("report")->effective["of"].size(), 9u);
  EXPECT_EQ(recipe.find("student-small")->effective["teacher"], "logits");
  ASSERT_EQ(recipe.gates.size(), 8u);
  EXPECT_EQ(recipe.gates[0].first, "gguf-small-f16.tasks.t.accuracy");
  EXPECT_EQ(recipe.gates[7].second.within->of, "student-large");
  EXPECT_EQ(recipe.swept.at("gguf-small-q4_0").stage, "gguf");
  EXPECT_EQ(recipe.swept.at("gguf-small-q4_0").values, (Json{{"student.model", "small.yaml"}, {"gguf.type", "q4_0"}}));
  EXPECT_EQ(recipe.swept.count("teacher"), 0u);
  EXPECT_NE(recipe.find("gguf-small-f16")->key, recipe.find("gguf-small-q8_0")->key);
  EXPECT_EQ(estimate(recipe, *folder_ / "none").size(), recipe.stages.size());
}

TEST_F(SweepTest, SharedStagesKeepTheirKeys) {
  const Recipe plain = load(kStages), swept = load(kTwoByFour);
  for (const char* id : {"tok", "teacher", "logits"}) EXPECT_EQ(plain.find(id)->key, swept.find(id)->key) << id;
}

TEST_F(SweepTest, OverridesReachTheSweep) {
  const Recipe recipe = load(kTwoByFour, {"stages.student.train.steps=7"});
  EXPECT_EQ(recipe.find("student-large")->effective["train"]["steps"], 7);
  EXPECT_EQ(load(kStages, {"sweep.gguf.type=[f16, q8_0]"}).find("gguf-q8_0")->effective["type"], "q8_0");
}

TEST_F(SweepTest, NumbersAndNestedKeysMakeIds) {
  const Recipe recipe = load(kStages + "sweep: {student: {train.lr: [0.001, 2.0e-3], train: {steps: [5, 10]}}}\n");
  EXPECT_EQ(recipe.find("student-0-001-10")->effective["train"]["steps"], 10);
  EXPECT_EQ(recipe.find("student-2-0e-3-5")->effective["train"]["lr"], 0.002);
}

TEST_F(SweepTest, EqualStagesAreOne) {
  // Exported from the student or from what is pruned in two ways: three files, not four.
  const std::string text =
      "name: r\ntask: task.yaml\nstages:\n  tok: {kind: train_tokenizer, vocab_size: 300}\n  student: {kind: distill, model: small.yaml, tokens: tok}\n"
      "  pruned: {kind: prune, model: student, ffn: 0.5}\n  gguf: {kind: export, model: student, format: gguf}\n"
      "  report: {kind: evaluate, of: gguf}\nsweep: {pruned.ffn: [0.5, 0.75], gguf.model: [student, pruned]}\ngates: {gguf.bytes: {at_most: 5}}\n";
  const Recipe recipe = load(text);
  EXPECT_EQ(ids(recipe).size(), 2u + 2 + 3 + 1);
  EXPECT_EQ(recipe.find("report")->effective["of"].size(), 3u);
  EXPECT_EQ(recipe.gates.size(), 3u);
  for (const auto& [id, swept] : recipe.swept)
    if (swept.stage == "gguf" && swept.values["gguf.model"] == "student") {
      EXPECT_FALSE(swept.values.contains("pruned.ffn"));
    }
}

TEST_F(SweepTest, FaultsAreNamed) {
  const auto has = [&](const std::string& sweep, const std::string& part) {
    const std::string text = faults(kStages + sweep);
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  };
  has("sweep: {studnt.model: [a, b]}\n", "did you mean 'student'");
  has("sweep: {student.model: small.yaml}\n", "a list of values");
  has("sweep: {student.model: []}\n", "an empty one");
  has("sweep: {student.model: [small.yaml, small.yaml]}\n", "twice");
  has("sweep: {student.modle: [small.yaml]}\n", "did you mean 'model'");
  has("sweep: {student.kind: [prune]}\n", "kind");
  has("sweep: {student: [a]}\n", "a stage's key");
  has("sweep: [a]\n", "a map");
  has("sweep: {teacher.train.steps: [1, 2]}\n", "a base and keys that the sweep leaves as they are");
  has("sweep: {student.train.steps: [nine]}\n", "nine");
  std::string many = "sweep: {";
  for (const char* key : {"steps", "batch", "warmup"}) {
    many += std::string(key == std::string("steps") ? "" : ", ") + "student.train." + key + ": [";
    for (int i = 1; i <= 20; ++i) many += (i > 1 ? ", " : "") + std::to_string(i);
    many += "]";
  }
  has(many + "}\n", "at most 2000 stages");
}

TEST_F(SweepTest, GatesCompareLikeWithLike) {
  // The artifact to compare with differs by an axis that the gated one does not have.
  const std::string text = faults(
      "name: r\ntask: task.yaml\nstages:\n  tok: {kind: train_tokenizer, vocab_size: 300}\n  a: {kind: distill, model: small.yaml, tokens: tok}\n"
      "  b: {kind: distill, model: small.yaml, tokens: tok}\nsweep: {a.train.steps: [1, 2], b.train.steps: [1, 2]}\n"
      "gates: {a.kld: {within: {of: b, margin: 1}}}\n");
  EXPECT_NE(text.find("within.of"), std::string::npos) << text;
  const std::string margin = faults(
      "name: r\ntask: task.yaml\nstages:\n  tok: {kind: train_tokenizer}\n  a: {kind: distill, model: small.yaml, tokens: tok}\n"
      "gates: {a.kld: {within: {of: nobody, margin: -1}}}\n");
  EXPECT_NE(margin.find("nobody"), std::string::npos) << margin;
  EXPECT_NE(margin.find("margin"), std::string::npos) << margin;
}

}  // namespace
}  // namespace attar
