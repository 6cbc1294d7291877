#include "stages/learn.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "formats/safetensors.h"
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

}  // namespace
}  // namespace attar
