#include "stages/learn.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "formats/safetensors.h"
#include "host_graph.h"
#include "report/run_log.h"
#include "stages/run.h"

namespace attar {
namespace {

std::string model_yaml(int64_t hidden, int64_t layers) {
  return str("hidden_size: ", hidden, "\nintermediate_size: 64\nnum_hidden_layers: ", layers,
             "\nnum_attention_heads: 2\nnum_key_value_heads: 1\nmax_position_embeddings: 64\ntie_word_embeddings: true\n");
}

/// A text, a tokenizer and a teacher of four layers, made once for all tests here.
class Learn : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_up_machine(1);
    root_ = new fs::path(fs::temp_directory_path() / ("attar_learn_test_" + std::to_string(::getpid())));
    fs::remove_all(*root_);
    make_folder(*root_);
    std::string text;
    for (int i = 0; i < 120; ++i) text += str("The ", i % 7, "th parcel of street ", i % 11, " was sent on day ", i % 5, " and came late.\n\n");
    write_file(*root_ / "text.txt", text);
    write_file(*root_ / "teacher.yaml", model_yaml(32, 4));
    write_file(*root_ / "narrow.yaml", model_yaml(16, 2));
    write_file(*root_ / "student.yaml", model_yaml(32, 2));
    run("train_tokenizer", {{"data", path("text.txt")}, {"vocab_size", 300}}, "tokens");
    run("distill", {{"model", path("teacher.yaml")}, {"tokens", path("tokens")}, {"data", data()}, {"train", training(4)}}, "teacher");
  }
  static void TearDownTestSuite() {
    fs::remove_all(*root_);
    delete root_;
  }
  static std::string path(const std::string& name) { return (*root_ / name).string(); }
  static Json data() { return {{"path", path("text.txt")}, {"seq", 32}}; }
  static Json training(int64_t steps) { return {{"steps", steps}, {"batch", 4}, {"warmup", 1}, {"lr", 3e-3}, {"eval_every", 100}}; }
  static fs::path run(const std::string& kind, const Json& configuration, const std::string& out) {
    LoneStage stage;
    stage.kind = kind, stage.configuration = configuration, stage.out = *root_ / out, stage.seed = 3;
    run_lone_stage(stage);
    return stage.out;
  }
  /// A student of the teacher, with `more` on top.
  static Json student(const std::string& model, int64_t steps, const Json& more = Json::object()) {
    Json out = {{"model", path(model)}, {"teacher", path("teacher")}, {"data", data()}, {"train", training(steps)}};
    out.merge_patch(more);
    return out;
  }
  static fs::path* root_;
};
fs::path* Learn::root_ = nullptr;

TEST_F(Learn, HiddenStatesAreLearnedThroughProjectionsThatAreNotKept) {
  const Json term = {{"loss", {{"hidden", {{"weight", 1.0}, {"layers", {"1:2", "2:4"}}}}}}};
  const fs::path live = run("distill", student("narrow.yaml", 30, term), "hidden_live");
  const auto log = read_run_log(live / "log.jsonl");
  ASSERT_EQ(log.size(), 30u);
  EXPECT_LT(log.back()["hidden"].get<double>(), 0.8 * log.front()["hidden"].get<double>());
  const Checkpoint kept = load_checkpoint(live);
  for (const auto& [name, tensor] : kept.weights) EXPECT_EQ(name.find("projection"), std::string::npos) << name;

  run("capture", {{"teacher", path("teacher")}, {"data", data()}, {"codec", {{"kind", "full"}, {"hidden_layers", {2, 4}}}}}, "cache");
  Json cached = student("narrow.yaml", 30, term);
  cached["teacher"] = path("cache");
  const auto from_cache = read_run_log(run("distill", cached, "hidden_cached") / "log.jsonl");
  EXPECT_NEAR(from_cache.front()["hidden"].get<double>(), log.front()["hidden"].get<double>(), 1e-2 * log.front()["hidden"].get<double>());
  EXPECT_LT(from_cache.back()["hidden"].get<double>(), 0.8 * from_cache.front()["hidden"].get<double>());
  cached["loss"]["hidden"]["layers"] = {"1:3"};
  EXPECT_THROW(run("distill", cached, "x"), Error) << "the cache does not hold layer 3";
  for (const char* wrong : {"1", "0:1", "3:1", "1:5", "a:b", "1:2:3"}) {
    Json bad = student("narrow.yaml", 2, term);
    bad["loss"]["hidden"]["layers"] = {wrong};
    EXPECT_THROW(run("distill", bad, "x"), Error) << wrong;
  }
}

TEST_F(Learn, StudentBeginsWithTheTeachersLayers) {
  Json config = student("student.yaml", 1, {{"init", {{"from", path("teacher")}, {"every", 2}}}, {"train", {{"lr", 0}}}});
  const Checkpoint teacher = load_checkpoint(path("teacher")), made = load_checkpoint(run("distill", config, "begun"));
  ASSERT_EQ(made.spec.layers.size(), 2u);
  EXPECT_TRUE(at::equal(made.weights.at("model.layers.1.mlp.up_proj.weight"), teacher.weights.at("model.layers.3.mlp.up_proj.weight")));
  EXPECT_TRUE(at::equal(made.weights.at("model.embed_tokens.weight"), teacher.weights.at("model.embed_tokens.weight")));
  config["model"] = path("narrow.yaml");
  EXPECT_THROW(run("distill", config, "x"), Error) << "another width";
  config["model"] = path("begun");
  EXPECT_THROW(run("distill", config, "x"), Error) << "a student that has weights";
}

TEST_F(Learn, LoraMergesAndKeepsTheAdapterApart) {
  Json config = student("begun_for_lora", 6, {{"lora", {{"rank", 2}, {"targets", {"q_proj", "up_proj"}}}}});
  config["model"] = path("teacher");
  config["loss"] = {{"ce", 1.0}};
  const fs::path out = run("distill", config, "lora");
  const Checkpoint base = load_checkpoint(path("teacher")), merged = load_checkpoint(out);
  const SafetensorsFile file(out / "adapter" / "adapter_model.safetensors");
  EXPECT_EQ(file.tensors().size(), 2u * 2 * 4);
  const auto read = [&](const std::string& name) {
    const auto bytes = file.bytes(name);
    at::Tensor out = at::empty(file.tensors().at(name).shape, at::kFloat);
    std::copy(bytes.begin(), bytes.end(), static_cast<uint8_t*>(out.data_ptr()));
    return out;
  };
  double largest = 0;
  for (const auto& [name, weight] : base.weights) {
    const at::Tensor& now = merged.weights.at(name);
    if (!name.ends_with("q_proj.weight") && !name.ends_with("up_proj.weight")) {
      EXPECT_TRUE(at::equal(now, weight)) << name;
      continue;
    }
    const std::string module = "base_model.model." + name.substr(0, name.size() - 7);
    const at::Tensor change = at::mm(read(module + ".lora_B.weight"), read(module + ".lora_A.weight")) * 2;
    EXPECT_LT((now - weight - change).abs().max().item<double>(), 1e-6) << name;
    largest = std::max(largest, change.abs().max().item<double>());
  }
  EXPECT_GT(largest, 1e-4) << "it learned";
}

TEST_F(Learn, RecomputationGivesTheSameBytesAndTheAverageOthers) {
  const auto weights = [](const fs::path& folder) { return read_file(folder / "model.safetensors"); };
  const std::string plain = weights(run("distill", student("student.yaml", 6), "plain"));
  EXPECT_EQ(plain, weights(run("distill", student("student.yaml", 6, {{"train", {{"checkpoint_activations", true}}}}), "again")));
  EXPECT_NE(plain, weights(run("distill", student("student.yaml", 6, {{"train", {{"ema", 0.9}}}}), "averaged")));
  EXPECT_NE(plain, weights(run("distill", student("student.yaml", 6, {{"train", {{"lr_scale", {{"embedding", 0.1}}}}}}), "scaled")));
}

/// learn() itself, with a stand-in for a GPU's graphs: weights, facts and the log.
struct LearnedHere {
  StateDict weights;
  Json facts;
  std::vector<Json> log;
};
LearnedHere learn_here(const fs::path& root, const std::string& name, const std::function<void(Learning&, StageRun&)>& change) {
  StageRun run;
  run.id = "result", run.label = name, run.key = "k", run.seed = 3, run.base = root, run.out = root / name, run.work = root / (name + ".work");
  make_folder(run.out), make_folder(run.work);
  Checkpoint student = load_checkpoint(root / "teacher");
  for (auto& [tensor_name, tensor] : student.weights) tensor = tensor * (tensor.dim() == 2 ? 0.7 : 1.0);
  Learning learning;
  learning.student = &student, learning.teacher = root / "teacher";
  run.inputs["data.path"] = root / "text.txt", learning.data.seq = 32;
  learning.train.steps = 8, learning.train.batch = 4, learning.train.warmup = 1, learning.train.eval_every = 4, learning.train.snapshot_every = 3;
  change(learning, run);
  learn(run, learning);
  LearnedHere out{student.weights, run.facts, {}};
  for (const Json& line : read_run_log(run.out / "log.jsonl")) out.log.push_back(line);
  return out;
}

/// Rows of several documents, some positions without a label: recorded steps compute those too, for nothing, and agree but for the order of sums.
TEST_F(Learn, RecordedStepsLearnWhatPlainOnesDo) {
  int64_t number = 0;
  const auto compare = [&](const std::string& what, const std::function<void(Learning&)>& more) {
    SCOPED_TRACE(what);
    const std::string name = str("recorded", number++);
    const LearnedHere plain = learn_here(*root_, name + "plain", [&](Learning& l, StageRun&) { more(l); });
    const LearnedHere got = learn_here(*root_, name, [&](Learning& l, StageRun&) {
      more(l);
      l.train.cuda_graph = "on", l.make_graph = host_graphs();
    });
    EXPECT_FALSE(plain.facts.contains("replayed_batches"));
    EXPECT_GT(got.facts["replayed_batches"].get<int64_t>(), 2);
    ASSERT_EQ(got.log.size(), plain.log.size());
    for (size_t i = 0; i < got.log.size(); ++i)
      for (const char* key : {"loss", "ce", "teacher", "tokens", "norm"}) {
        if (!plain.log[i].contains(key)) continue;
        const double expected = plain.log[i][key].get<double>();
        EXPECT_NEAR(got.log[i][key].get<double>(), expected, 1e-4 * expected) << key;
      }
    for (const auto& [tensor_name, tensor] : plain.weights)
      EXPECT_LT((got.weights.at(tensor_name) - tensor).abs().max().item<double>(), 1e-4) << tensor_name;
  };
  compare("a live teacher", [](Learning&) {});
  compare("labels alone, accumulated", [](Learning& l) { l.teacher.reset(), l.train.accumulate = 2; });
  compare("prompts that weigh less, adapters", [](Learning& l) { l.loss.prompt_weight = 0.5, l.data.learn = "all", l.lora.rank = 2; });
  run("capture", {{"teacher", path("teacher")}, {"data", data()}, {"codec", {{"kind", "top_k"}, {"k", 7}}}}, "cache_for_recording");
  compare("a cache, activations computed again", [&](Learning& l) {
    l.teacher = path("cache_for_recording"), l.train.recompute_layers = true;
  });
}

TEST_F(Learn, WhatCannotBeRecordedIsSaidOrRefused) {
  const auto hidden = [](Learning& l) {
    l.loss.hidden.weight = 1, l.loss.hidden.layers = {"1:2"};
    l.make_graph = host_graphs();
  };
  const LearnedHere plain = learn_here(*root_, "not_recorded", [&](Learning& l, StageRun&) { hidden(l), l.train.cuda_graph = "auto"; });
  EXPECT_FALSE(plain.facts.contains("replayed_batches"));
  EXPECT_THROW(learn_here(*root_, "x", [&](Learning& l, StageRun&) { hidden(l), l.train.cuda_graph = "on"; }), Error);
  EXPECT_THROW(learn_here(*root_, "x", [](Learning& l, StageRun&) { l.train.cuda_graph = "on"; }), Error) << "a CPU has none";
  EXPECT_THROW(learn_here(*root_, "x", [](Learning& l, StageRun&) { l.train.cuda_graph = "yes"; }), Error);
  const LearnedHere refusing = learn_here(*root_, "refusing", [](Learning& l, StageRun&) {
    l.train.cuda_graph = "auto", l.make_graph = host_graphs(/*refuses=*/true);
  });
  EXPECT_EQ(refusing.facts["replayed_batches"], 0) << "done as it stands";
}

class CudaLearn : public Learn {
 protected:
  static void SetUpTestSuite() {
    if (cuda_usable()) Learn::SetUpTestSuite();
  }
  static void TearDownTestSuite() {
    if (cuda_usable()) Learn::TearDownTestSuite();
  }
};

/// On a GPU recorded steps have the bits of the same steps done as they stand; those without fixed shapes add up in another order.
TEST_F(CudaLearn, RecordedStepsHaveThePlainBits) {
  std::string why;
  if (!cuda_usable(&why)) GTEST_SKIP() << "SKIPPED LOUDLY: no step was recorded: " << why;
  for (const char* precision : {"fp32", "bf16"}) {
    SCOPED_TRACE(precision);
    const auto learned = [&](const std::string& name, MakeGraph make, const char* graph) {
      return learn_here(*root_, name + precision, [&](Learning& l, StageRun& run) {
        run.device = parse_device("cuda"), l.train.precision = precision, l.train.cuda_graph = graph, l.make_graph = std::move(make);
      });
    };
    const LearnedHere recorded = learned("recorded", {}, "on"), stands = learned("stands", host_graphs(true), "auto");
    const LearnedHere plain = learned("plain", {}, "off");
    EXPECT_GT(recorded.facts["replayed_batches"].get<int64_t>(), 2);
    for (const auto& [name, tensor] : stands.weights) {
      EXPECT_TRUE(at::equal(recorded.weights.at(name), tensor)) << name;
      EXPECT_LT((plain.weights.at(name) - tensor).abs().max().item<double>(), 5e-3) << name;
    }
    EXPECT_NEAR(recorded.log.back()["loss"].get<double>(), plain.log.back()["loss"].get<double>(), 0.02 * plain.log.back()["loss"].get<double>());
  }
}

}  // namespace
}  // namespace attar
