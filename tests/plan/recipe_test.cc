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
  for (const char* part : {"taks", "did you mean 'task'", "nowhere.yaml", "trian", "'train'", "distil", "'distill'", "ffn", "much", "zzz",
                           "at_least, at_most or within"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  EXPECT_NE(text.find("r.yaml:4"), std::string::npos) << text;
}

TEST_F(RecipeTest, WhatIsWrittenOnceIsWrongOnce) {
  const std::string text = faults(
      "data: {path: away/rows.jsonl}\nstages:\n  t: {kind: train_tokenizer, data: text.jsonl}\n  a: {kind: distill, model: model.yaml, tokens: t}\n"
      "  b: {kind: capture, teacher: a}\n  c: {kind: distill, model: model.yaml, tokens: t}\n");
  EXPECT_EQ(text.find("away/rows.jsonl"), text.rfind("away/rows.jsonl")) << text;
  EXPECT_NE(text.find("data.path"), std::string::npos) << text;
  EXPECT_EQ(text.find("stages."), std::string::npos) << text;
  EXPECT_EQ(text.find("known:"), std::string::npos) << "stages are no answer to a missing file\n" << text;
}

TEST_F(RecipeTest, RefusesACircleAndAWrongKind) {
  EXPECT_NE(faults("task: task.yaml\nstages:\n  a: {kind: prune, model: b}\n  b: {kind: prune, model: a}\n").find("circle"), std::string::npos);
  EXPECT_NE(faults("task: task.yaml\nstages:\n  t: {kind: train_tokenizer}\n  b: {kind: prune, model: t}\n").find("gives a model"),
            std::string::npos);
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

TEST_F(RecipeTest, MixturesNamePathsTasksAndStages) {
  put("more.jsonl", "{\"text\": \"more\"}\n");
  const std::string text =
      "name: r\nstages:\n"
      "  student: {kind: distill, model: model.yaml, tokens: tok, teacher: big, data: {mix: [{path: written, weight: 2}, {path: more.jsonl, weight: 1}]}}\n"
      "  written: {kind: synthesize, teacher: big, data: {path: text.jsonl}}\n"
      "  big: {kind: distill, model: model.yaml, tokens: tok, data: {path: more.jsonl}}\n"
      "  tok: {kind: train_tokenizer, vocab_size: 300, data: text.jsonl}\n";
  const Recipe recipe = load(text);
  EXPECT_EQ(recipe.stages.back().id, "student") << "it waits for the stage that writes";
  const Stage& student = *recipe.find("student");
  const auto has = [&student](const std::string& key, const std::string& stage) {
    return std::any_of(student.references.begin(), student.references.end(), [&](const Reference& r) { return r.key == key && r.stage == stage; });
  };
  EXPECT_TRUE(has("data.mix[0].path", "written"));
  EXPECT_TRUE(has("data.mix[1].path", ""));
  EXPECT_GT(estimate(recipe, *folder_ / "run").back().seconds, 0);
  EXPECT_NE(load(text, {"stages.written.temperature=0.5"}).find("student")->key, student.key);
  EXPECT_NE(load(text, {"stages.student.data.mix.1.weight=3"}).find("student")->key, student.key);
  // A capture reads every row once: in which order they are learned makes no other cache.
  const std::string cached =
      text + "  cache: {kind: capture, teacher: big, data: {mix: [{path: written, weight: 2}, {path: more.jsonl, weight: 1}]}}\n";
  const std::string key = load(cached).find("cache")->key;
  EXPECT_EQ(load(cached, {"stages.cache.data.mix.1.weight=3", "stages.cache.data.filter.drop_highest=0.1"}).find("cache")->key, key);
  EXPECT_NE(load(cached, {"stages.cache.data.mix.1.kind=text"}).find("cache")->key, key);

  EXPECT_NE(faults("stages:\n  a: {kind: distill, model: model.yaml, data: {path: text.jsonl, mix: [{path: more.jsonl}]}}\n").find("path or mix"),
            std::string::npos);
  EXPECT_NE(faults("stages:\n  a: {kind: distill, model: model.yaml, data: {mix: [{path: more.jsonl}, {weight: 1}]}}\n").find("1 without"),
            std::string::npos);
  EXPECT_NE(faults("stages:\n  a: {kind: distill, model: model.yaml, data: {mix: [{path: mroe.jsonl}]}}\n").find("mix[0].path"), std::string::npos);
  EXPECT_NE(faults("stages:\n  a: {kind: distill, model: model.yaml, data: {mix: [{path: more.jsonl, wieght: 1}]}}\n").find("'weight'"),
            std::string::npos);
  EXPECT_EQ(faults("task: task.yaml\nstages:\n  a: {kind: distill, model: model.yaml, data: {mix: [{path: more.jsonl}, {limit: 5}]}}\n"), "");
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

/// A stage's key is what it was before train.cuda_graph came, as long as the key is not used.
TEST_F(RecipeTest, RecordedStepsHaveAKeyOfTheirOwn) {
  const auto key = [&](const std::vector<std::string>& overrides) { return load(kGood, overrides).find("student")->key; };
  EXPECT_EQ(key({"stages.student.train.cuda_graph=off"}), key({}));
  EXPECT_NE(key({"stages.student.train.cuda_graph=auto"}), key({}));
  Json before = load(kGood).find("student")->effective;
  EXPECT_EQ(before["train"]["cuda_graph"], "off") << "it is shown all the same";
}

TEST_F(RecipeTest, EstimatesKnowAdaptersAndRecomputation) {
  const auto student = [&](const std::vector<std::string>& overrides) { return estimate(load(kGood, overrides), *folder_ / "run").at(2); };
  const StageEstimate plain = student({}), adapters = student({"stages.student.lora.rank=4"}),
                      again = student({"stages.student.train.checkpoint_activations=true"}), average = student({"stages.student.train.ema=0.99"});
  EXPECT_EQ(plain.trainable, plain.parameters);
  // Four layers of D 64, four heads of 16, two kv heads, F 704; all seven linears.
  EXPECT_EQ(adapters.trainable, 4 * 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 704)));
  EXPECT_EQ(adapters.parameters, plain.parameters);
  // Gradients, moments: three numbers less for what is frozen, four and the adapter itself more for what is trained.
  EXPECT_EQ(plain.peak_bytes - adapters.peak_bytes, 4 * (3 * plain.parameters - 4 * adapters.trainable));
  EXPECT_EQ(average.peak_bytes - plain.peak_bytes, 4 * plain.parameters);
  EXPECT_LT(again.peak_bytes, plain.peak_bytes);
  const ModelSpec spec = spec_from_config(Json::parse(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 704, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": true, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512, "hidden_act": "silu"})"), "test");
  const auto length = static_cast<int64_t>(plain.tokens / (5 * 32));
  const double head = 2.0 * 300 * 64 * static_cast<double>(plain.tokens);
  // Frozen weights get no gradients; the adapters' three products count.
  const double weights = forward_flops(spec, plain.tokens, 0), adapted = 6.0 * static_cast<double>(adapters.trainable * plain.tokens);
  EXPECT_NEAR(plain.flops - adapters.flops, weights - adapted, 1e-6 * plain.flops);
  EXPECT_NEAR(again.flops - plain.flops, forward_flops(spec, plain.tokens, length) - head, 1e-6 * plain.flops);
}

/// One calibration pass for importance matrices and pruning: who is given its statistics reads no text, and costs nothing for it.
TEST_F(RecipeTest, StatisticsOfACalibrateStageCostNothingAgain) {
  const std::string model = "stages:\n  tok: {kind: train_tokenizer, vocab_size: 300, data: text.jsonl}\n"
                            "  big: {kind: distill, model: model.yaml, tokens: tok, data: {path: text.jsonl}}\n"
                            "  seen: {kind: calibrate, model: big, data: {path: text.jsonl}}\n";
  const auto pruned = [&](const std::string& how) { return model + "  small: {kind: prune, model: big, " + how + "}\n"; };
  const Recipe recipe = load(pruned("ffn: 0.5, calibration: seen"));
  EXPECT_EQ(recipe.stages.back().id, "small") << "it waits for the statistics";
  const StageEstimate given = estimate(recipe, *folder_ / "run").back();
  const StageEstimate own = estimate(load(pruned("ffn: 0.5, data: {path: text.jsonl}")), *folder_ / "run").back();
  EXPECT_EQ(given.tokens, 0);
  EXPECT_EQ(given.flops, 0);
  EXPECT_GT(own.tokens, 0);
  EXPECT_GT(own.flops, 0);
  EXPECT_LT(given.peak_bytes, own.peak_bytes);
  EXPECT_EQ(faults(pruned("method: wanda, calibration: seen")), "");
  for (const char* how : {"method: sparsegpt, calibration: seen", "calibration: seen, vocabulary: 1", "calibration: seen, search: {parameters: 9}",
                          "criterion: taylor", "ffn: 0.5"})
    EXPECT_NE(faults(pruned(how)).find("small.data.path"), std::string::npos) << how;
  EXPECT_NE(faults(pruned("calibration: tok")).find("a calibrate stage"), std::string::npos);
  EXPECT_NE(load(pruned("ffn: 0.5, calibration: seen"), {"stages.seen.calibration_rows=3"}).stages.back().key, recipe.stages.back().key);
  const std::string planned = pruned("search: {bytes: 90000, types: [q4_0, q8_0]}, data: {path: text.jsonl}") +
                              "  file: {kind: quantize, model: small, budget: {plan: small}}\n";
  EXPECT_EQ(faults(planned), "");
  EXPECT_NE(faults(model + "  file: {kind: quantize, model: big, budget: {plan: big}}\n").find("a prune stage"), std::string::npos);
}

/// Keys of a rounding count where a rounding is asked for: stages that were finished before there was one stay found.
TEST_F(RecipeTest, RoundingsKeysCountForRoundingAlone) {
  const auto key = [&](const std::string& how, const std::vector<std::string>& overrides) {
    const std::string stage = "  file: {kind: quantize, model: student, data: {path: text.jsonl}, " + how + "}\n";
    return load(kGood + stage, overrides).stages.back().key;
  };
  for (const char* how : {"method: gptq", "method: qat, start: search"})
    EXPECT_EQ(key(how, {"stages.file.rounding.steps=9"}), key(how, {})) << how;
  for (const char* how : {"method: rounding", "method: qat, start: rounding"})
    EXPECT_NE(key(how, {"stages.file.rounding.steps=9"}), key(how, {})) << how;
  EXPECT_NE(key("method: rounding", {}), key("method: gptq", {}));
}

TEST_F(RecipeTest, EstimatesKnowWhatSearchesAndWalksCost) {
  std::string text;
  for (int i = 0; i < 4000; ++i) text += "{\"text\": \"hello hello hello hello hello hello hello hello hello hello\"}\n";
  put("text.jsonl", text);
  const std::string model = "stages:\n  tok: {kind: train_tokenizer, vocab_size: 300, data: text.jsonl}\n"
                            "  big: {kind: distill, model: model.yaml, tokens: tok, data: {path: text.jsonl}}\n";
  const auto last = [&](const std::string& stage) {
    return estimate(load(model + "  last: {" + stage + ", model: big, data: {path: text.jsonl, seq: 64}}\n"), *folder_ / "run").back();
  };
  const StageEstimate
      pass = last("kind: calibrate, calibration_rows: 32"),
      longer = last("kind: calibrate, calibration_rows: 64"), rounding = last("kind: quantize"),
      walk = last("kind: quantize, method: gptq, calibration_rows: 32"),
      learned = last("kind: quantize, method: rounding, calibration_rows: 32, rounding: {steps: 50}"),
      longer_learned = last("kind: quantize, method: rounding, calibration_rows: 32, rounding: {steps: 100}"),
      learned_start = last("kind: quantize, method: rounding, calibration_rows: 32, rounding: {steps: 50, start: gptq}"),
      budget = last("kind: quantize, budget: {bits: 5, rows: 32, types: [q4_0, q8_0]}"),
      more_types = last("kind: quantize, budget: {bits: 5, rows: 32, types: [q4_0, q5_0, q8_0]}"),
      wanda = last("kind: prune, method: wanda, calibration_rows: 32"), sparse = last("kind: prune, method: sparsegpt, calibration_rows: 32"),
      search = last("kind: prune, criterion: magnitude, search: {parameters: 99999, candidates: 4, rows: 32, finalists: 0}"),
      recovered = last("kind: prune, criterion: magnitude, search: {parameters: 99999, candidates: 4, rows: 32, finalists: 2, recovery_steps: 10}"),
      joint = last(
          "kind: prune, criterion: magnitude, search: {bytes: 99999, types: [q4_0, q8_0], type_rows: 32, candidates: 4, rows: 32, finalists: 0}");
  EXPECT_EQ(pass.tokens, 32 * 64);
  EXPECT_NEAR(longer.flops, 2 * pass.flops, 1e-6 * longer.flops);
  EXPECT_EQ(rounding.flops, 0);
  EXPECT_GT(walk.flops, 2 * pass.flops);
  EXPECT_GT(walk.peak_bytes, rounding.peak_bytes);
  EXPECT_GT(learned.flops, 20 * pass.flops);
  EXPECT_GT(longer_learned.flops, 1.8 * learned.flops);
  EXPECT_NEAR(learned_start.flops, learned.flops + walk.flops, 1e-6 * learned.flops);
  EXPECT_GT(learned.peak_bytes, rounding.peak_bytes);
  EXPECT_GT(budget.flops, 2 * pass.flops);
  EXPECT_GT(more_types.flops, 1.3 * budget.flops);
  EXPECT_NEAR(wanda.flops, 2 * pass.flops, 1e-6 * wanda.flops);
  EXPECT_GT(sparse.flops, wanda.flops);
  EXPECT_GT(sparse.peak_bytes, wanda.peak_bytes);
  EXPECT_NEAR(search.flops, 4 * pass.flops, 1e-6 * search.flops);
  EXPECT_EQ(recovered.tokens - search.tokens, 2 * 10 * 16 * 64);
  EXPECT_GT(recovered.peak_bytes, search.peak_bytes);
  // A file's tensors with two types each, for four shapes.
  EXPECT_NEAR(joint.flops - search.flops, 4 * budget.flops, 1e-6 * joint.flops);
  for (const StageEstimate& e : {walk, budget, search, recovered, joint}) EXPECT_GT(e.seconds, 0.5 + 0.9 * e.flops / machine_flops()) << e.kind;
}

TEST_F(RecipeTest, APrunedVocabularyIsAtMost) {
  const std::string pruned = std::string(kGood) + "  small: {kind: prune, model: student, data: {path: text.jsonl}, vocabulary: 2}\n" +
                             "  file: {kind: export, model: small, format: gguf}\n";
  const auto estimates = estimate(load(pruned), *folder_ / "run");
  for (const StageEstimate& e : estimates) EXPECT_EQ(e.at_most, e.id == "small" || e.id == "file") << e.id;
  EXPECT_NE(to_line(to_json(estimates)).find("\"at_most\":true"), std::string::npos);
}

TEST_F(RecipeTest, SchemaNamesEveryKind) {
  const std::string text = recipe_schema().dump();
  for (const auto& [kind, help] : stage_kinds()) EXPECT_NE(text.find("\"const\":\"" + kind + "\""), std::string::npos);
}

TEST_F(RecipeTest, RunningServersAreArtifactsWithNamesOfTheirOwn) {
  const std::string stages = std::string(kGood) + "  report: {kind: evaluate, of: [student], runtime: ";
  const Recipe recipe = load(stages + "{llama: {url: http://127.0.0.1:1, of: student}}}\ngates:\n  llama.tasks.t.accuracy: {at_least: 0.5}\n");
  EXPECT_EQ(recipe.gates.size(), 1u);
  // How patiently a server is asked changes nothing of what it says.
  const std::string key = recipe.find("report")->key;
  EXPECT_EQ(load(stages +
                 "{llama: {url: http://127.0.0.1:1, of: student, timeout: 5, concurrency: 1}}}\ngates:\n  llama.tasks.t.accuracy: {at_least: 0.5}\n")
                .find("report")
                ->key,
            key);
  for (const auto& [runtime, words] :
       std::vector<std::pair<std::string, std::string>>{{"{student: {url: http://x}}}\n", "a name that no stage has"},
                                                        {"{llama: {url: x}}}\n", "runtime.llama.url"},
                                                        {"{llama: {}}}\n", "received nothing"},
                                                        {"{llama: {url: http://x, of: other}}}\n", "runtime.llama.of"},
                                                        {"{llama: {url: http://x, modle: y}}}\n", "did you mean 'model'"}}) {
    const std::string said = faults(stages + runtime);
    EXPECT_NE(said.find(words), std::string::npos) << said;
  }
  put("task.yaml", "name: t\nkind: summary\ntrain: text.jsonl\n");
  EXPECT_NE(faults(kGood).find("kind of task t"), std::string::npos);
}

TEST_F(RecipeTest, ARouterSendsToWhatWasEvaluatedAServerAmongIt) {
  const std::string stages = std::string(kGood) +
                             "  report: {kind: evaluate, of: [student], runtime: {served: {url: http://127.0.0.1:1}}}\n"
                             "  router: {kind: route, of: report, small: ";
  const Recipe recipe = load(stages + "student, large: served}\n");
  const Stage& router = *recipe.find("router");
  EXPECT_EQ(router.effective["large"], "served");
  for (const Reference& reference : router.references) EXPECT_NE(reference.key, "large") << "no stage made it";
  EXPECT_NE(load(stages + "student, large: served, error: 0.2}\n").find("router")->key, router.key);
  EXPECT_EQ(estimate(recipe, *folder_ / "none").size(), recipe.stages.size());
  for (const auto& [models, words] : std::vector<std::pair<std::string, std::string>>{
           {"student, large: servd}\n", "router.large, expected an artifact or a server (runtime) of report, received servd, did you mean 'served'?"},
           {"studnet, large: served}\n", "did you mean 'student'?"},
           {"student, large: big}\n", "received big"},
           {"student}\n", "stages.router.large"}}) {
    const std::string said = faults(stages + models);
    EXPECT_NE(said.find(words), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << "said once: " << said;
  }
}

}  // namespace
}  // namespace attar
