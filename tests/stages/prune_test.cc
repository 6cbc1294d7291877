#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <unistd.h>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "formats/gguf.h"
#include "stages/learn.h"
#include "stages/masked.h"
#include "stages/run.h"

namespace attar {
namespace {

/// A text, a tokenizer and a model of four layers, made once.
class PruneStage : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_up_machine(1);
    root_ = new fs::path(fs::temp_directory_path() / ("attar_prune_stage_test_" + std::to_string(::getpid())));
    fs::remove_all(*root_);
    make_folder(*root_);
    std::string text;
    for (int i = 0; i < 120; ++i) text += str("The ", i % 7, "th parcel of street ", i % 11, " was sent on day ", i % 5, " and came late.\n\n");
    write_file(*root_ / "text.txt", text);
    write_file(*root_ / "model.yaml",
               "hidden_size: 32\nintermediate_size: 64\nnum_hidden_layers: 4\nnum_attention_heads: 4\nnum_key_value_heads: 2\nmax_position_embeddings: 64\n"
               "tie_word_embeddings: true\n");
    run("train_tokenizer", {{"data", path("text.txt")}, {"vocab_size", 300}}, "tokens");
    run("distill", {{"model", path("model.yaml")}, {"tokens", path("tokens")}, {"data", data()}, {"train", training(12)}}, "model");
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
  static Json pruning(const Json& more) {
    Json out = {{"model", path("model")}, {"data", data()}, {"calibration_rows", 16}, {"multiple", 8}};
    out.merge_patch(more);
    return out;
  }
  static Json facts(const fs::path& folder) { return read_json(folder / "manifest.json")["facts"]; }
  static fs::path* root_;
};
fs::path* PruneStage::root_ = nullptr;

TEST_F(PruneStage, MasksAreStoredNamedAndHeldAfterEveryStep) {
  const fs::path masked = run("prune", pruning({{"method", "wanda"}, {"pattern", "2:4"}}), "masked");
  const Json manifest = read_json(masked / "manifest.json");
  EXPECT_EQ(manifest["facts"]["masks"]["file"], "masks.safetensors");
  EXPECT_NE(to_line(manifest["outputs"]).find("masks.safetensors"), std::string::npos) << "hashed with the rest";
  EXPECT_EQ(manifest["facts"]["masks"]["sparsity"], 0.5);
  EXPECT_EQ(manifest["facts"]["parameters"], manifest["facts"]["parameters_before"]);

  // Every forward of the training sees the weights as the step before it left them.
  Checkpoint student = load_checkpoint(masked);
  const std::shared_ptr<const Masks> masks = masks_of(masked, student.spec);
  ASSERT_TRUE(masks);
  int64_t looked = 0, broken = 0;
  StageRun stage;
  stage.id = stage.label = "result", stage.work = *root_ / "work", stage.out = *root_ / "out", stage.base = *root_;
  make_folder(stage.work), make_folder(stage.out);
  stage.inputs["data.path"] = path("text.txt");
  DataConfig text;
  text.path = path("text.txt"), text.seq = 32;
  TrainConfig train;
  train.steps = 6, train.batch = 4, train.warmup = 1, train.lr = 1e-2;
  Learning learning{&student, {}, {}, text, {}, train};
  learning.weight_hook = [&](const std::string& name, const at::Tensor& weight) {
    if (const auto found = masks->alive.find(name); found != masks->alive.end()) {
      ++looked;
      broken += weight.detach().masked_select(found->second.logical_not()).ne(0).sum().item<int64_t>();
    }
    return weight;
  };
  const Checkpoint before = load_checkpoint(masked);
  learning.masks = masks;
  learn(stage, learning);
  EXPECT_GE(looked, 6 * 28);
  EXPECT_EQ(broken, 0);
  EXPECT_EQ(broken_zeros(*masks, student.weights), 0);
  EXPECT_FALSE(at::equal(student.weights.at("model.layers.0.mlp.up_proj.weight"), before.weights.at("model.layers.0.mlp.up_proj.weight"))) << "it learned";

  // Without the masks the same training fills the zeros: the test can fail.
  Checkpoint free = load_checkpoint(masked);
  learning.student = &free, learning.masks = nullptr, stage.work = *root_ / "work2";
  make_folder(stage.work);
  learn(stage, learning);
  EXPECT_GT(broken, 0);
}

TEST_F(PruneStage, LaterStagesKeepTheMasksOrSayThatTheyCannot) {
  const fs::path masked = run("prune", pruning({{"method", "sparsegpt"}, {"pattern", "0.5"}}), "sparse");
  const fs::path tuned = run("distill", {{"model", path("sparse")}, {"teacher", path("model")}, {"data", data()}, {"train", training(3)}}, "tuned");
  const Checkpoint model = load_checkpoint(tuned);
  ASSERT_TRUE(masks_of(tuned, model.spec));
  EXPECT_EQ(broken_zeros(*masks_of(tuned, model.spec), model.weights), 0);
  EXPECT_EQ(facts(tuned)["masks"]["method"], "sparsegpt");
  EXPECT_THROW(run("distill", {{"model", path("sparse")}, {"data", data()}, {"train", training(1)}, {"lora", {{"rank", 2}}}}, "x"), Error);
  EXPECT_THROW(run("prune", {{"model", path("sparse")}, {"ffn", 0.5}, {"criterion", "magnitude"}, {"multiple", 8}}, "x"), Error) << "masked models are not cut";

  const fs::path kept = run("quantize", {{"model", path("tuned")}, {"scheme", "q4_0"}}, "kept");
  EXPECT_EQ(facts(kept)["masks"]["broken"], 0);
  EXPECT_TRUE(fs::exists(kept / "masks.safetensors"));
  const fs::path lost = run("quantize", {{"model", path("tuned")}, {"scheme", "q4_1"}}, "lost");
  EXPECT_GT(facts(lost)["masks"]["broken"].get<int64_t>(), 0) << "a grid with an offset";
  EXPECT_FALSE(fs::exists(lost / "masks.safetensors"));

  const fs::path file = run("export", {{"model", path("kept")}, {"format", "hf"}}, "exported");
  EXPECT_TRUE(fs::exists(file / "masks.safetensors"));
  EXPECT_NE(to_line(facts(file)["notes"]).find("no smaller and no faster"), std::string::npos);
  run("export", {{"model", path("tuned")}, {"format", "gguf"}, {"type", "f16"}}, "tuned.gguf");
  run("export", {{"model", path("model")}, {"format", "gguf"}, {"type", "f16"}}, "model.gguf");
  EXPECT_EQ(fs::file_size(path("tuned.gguf")), fs::file_size(path("model.gguf"))) << "zeros gain nothing";
}

TEST_F(PruneStage, MasksAndWidthsAreNotMixed) {
  for (const Json& wrong : {Json{{"method", "wanda"}, {"ffn", 0.5}}, Json{{"method", "magnitude"}, {"vocabulary", 1}}, Json{{"method", "wanda"}, {"pattern", "3:2"}},
                            Json{{"method", "magnitude"}, {"search", {{"parameters", 10000}}}}, Json{{"method", "random"}}})
    EXPECT_THROW(run("prune", pruning(wrong), "x"), Error) << to_line(wrong);
}

TEST_F(PruneStage, ASearchFindsAShapeWithinEachLimit) {
  const int64_t whole = parameter_count(load_spec(path("model")));
  const Json shares = {{"hidden", {1, 0.5}}, {"kv_heads", {1, 0.5}}, {"depth", {1, 0.5}}, {"finalists", 2}, {"rows", 8}, {"recovery_steps", 4},
                       {"recovery_batch", 4}};
  const auto search = [&](const Json& limit) {
    Json config = shares;
    config.merge_patch(limit);
    return pruning({{"search", config}});
  };
  const fs::path by_count = run("prune", search({{"parameters", whole / 2}}), "by_count");
  EXPECT_LE(parameter_count(load_spec(by_count)), whole / 2);
  const Json table = facts(by_count)["search"];
  EXPECT_GT(table["candidates"].size(), 2u);
  EXPECT_TRUE(table["candidates"][0]["chosen"].get<bool>());
  EXPECT_TRUE(table["candidates"][1]["recovered"].is_number());
  EXPECT_LE(table["candidates"][0]["recovered"].get<double>(), table["candidates"][1]["recovered"].get<double>());
  EXPECT_EQ(table["candidates"][0]["parameters"], parameter_count(load_spec(by_count)));
  const fs::path again = run("prune", search({{"parameters", whole / 2}}), "by_count_again");
  EXPECT_EQ(read_file(again / "model.safetensors"), read_file(by_count / "model.safetensors")) << "same seed, same answer";
  EXPECT_EQ(facts(again)["search"], table);

  run("export", {{"model", path("model")}, {"format", "gguf"}, {"type", "q8_0"}}, "whole.gguf");
  const auto limit = static_cast<int64_t>(0.6 * static_cast<double>(fs::file_size(path("whole.gguf"))));
  const fs::path by_bytes = run("prune", search({{"bytes", limit}, {"type", "q8_0"}, {"vocabulary", {0, 1}}, {"finalists", 0}}), "by_bytes");
  run("export", {{"model", by_bytes.string()}, {"format", "gguf"}, {"type", "q8_0"}}, "by_bytes.gguf");
  EXPECT_LE(static_cast<int64_t>(fs::file_size(path("by_bytes.gguf"))), limit);
  EXPECT_GT(static_cast<int64_t>(fs::file_size(path("by_bytes.gguf"))), limit / 2) << "it uses what it may";
  EXPECT_LT(facts(by_bytes)["search"]["candidates"][0]["cost"].get<double>() - static_cast<double>(fs::file_size(path("by_bytes.gguf"))), 4096);

  write_file(*root_ / "latency.json", R"({"kind": "attar latency table", "version": 1, "machine": "a test", "widths": [16, 64],
    "linear_ms": [0.01, 0.02, 0.02, 0.05], "layer_ms": 0.01, "token_ms": 0.1})");
  const fs::path by_time = run("prune", search({{"ms_per_token", 0.5}, {"latency", path("latency.json")}, {"finalists", 0}}), "by_time");
  EXPECT_LE(facts(by_time)["search"]["candidates"][0]["cost"].get<double>(), 0.5);
  EXPECT_EQ(facts(by_time)["latency_machine"], "a test");
  try {
    run("prune", search({{"ms_per_token", 0.01}, {"latency", path("latency.json")}}), "x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("the smallest shape of these shares"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace attar
