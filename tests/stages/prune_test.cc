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
    write_file(
        *root_ / "model.yaml",
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
  EXPECT_FALSE(at::equal(student.weights.at("model.layers.0.mlp.up_proj.weight"), before.weights.at("model.layers.0.mlp.up_proj.weight")))
      << "it learned";

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
  EXPECT_THROW(run("prune", {{"model", path("sparse")}, {"ffn", 0.5}, {"criterion", "magnitude"}, {"multiple", 8}}, "x"), Error)
      << "masked models are not cut";

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
  for (const Json& wrong :
       {Json{{"method", "wanda"}, {"ffn", 0.5}}, Json{{"method", "magnitude"}, {"vocabulary", 1}}, Json{{"method", "wanda"}, {"pattern", "3:2"}},
        Json{{"method", "magnitude"}, {"search", {{"parameters", 10000}}}}, Json{{"method", "random"}}})
    EXPECT_THROW(run("prune", pruning(wrong), "x"), Error) << to_line(wrong);
}

/// One pass of a calibrate stage serves importance matrices and pruning.
TEST_F(PruneStage, StatisticsOfACalibrateStageGiveTheBytesOfItsOwnPass) {
  run("calibrate", {{"model", path("model")}, {"data", data()}, {"calibration_rows", 16}}, "statistics");
  for (const Json& shares : {Json{{"ffn", 0.5}, {"kv_heads", 0.5}, {"hidden", 0.5}}, Json{{"depth", 0.5}}}) {
    const fs::path own = run("prune", pruning(shares), "own");
    Json given = {{"model", path("model")}, {"multiple", 8}, {"calibration", path("statistics")}};  // reads no text at all
    given.merge_patch(shares);
    const fs::path shared = run("prune", given, "shared");
    EXPECT_EQ(read_file(shared / "model.safetensors"), read_file(own / "model.safetensors")) << shares;
    EXPECT_EQ(facts(shared)["pruned"], facts(own)["pruned"]);
    EXPECT_FALSE(fs::exists(shared / "statistics.safetensors")) << "they are the calibrate stage's";
    EXPECT_EQ(read_file(own / "statistics.safetensors"), read_file(*root_ / "statistics" / "statistics.safetensors"));
  }
  // Wanda from the same statistics: what the first layer reads is no other than in the walk, later layers see unmasked ones.
  const Json wanda = {{"method", "wanda"}, {"pattern", "2:4"}};
  const fs::path walked = run("prune", pruning(wanda), "walked");
  Json given = {{"model", path("model")}, {"calibration", path("statistics")}};
  given.merge_patch(wanda);
  const fs::path masked = run("prune", given, "given");
  const ModelSpec spec = load_spec(masked);
  const auto a = masks_of(masked, spec), b = masks_of(walked, spec);
  ASSERT_TRUE(a && b);
  ASSERT_EQ(a->alive.size(), b->alive.size());
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    const std::string weight = str("model.layers.0.self_attn.", name, ".weight");
    EXPECT_TRUE(at::equal(a->alive.at(weight), b->alive.at(weight))) << weight;
  }
  EXPECT_FALSE(at::equal(a->alive.at("model.layers.3.mlp.down_proj.weight"), b->alive.at("model.layers.3.mlp.down_proj.weight")));
  EXPECT_EQ(facts(masked)["masks"]["sparsity"], 0.5);

  const auto refusal = [&](const Json& config) {
    try {
      run("prune", config, "x");
      return std::string("none");
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  run("distill", {{"model", path("model")}, {"data", data()}, {"train", training(1)}}, "moved");
  const std::string words = refusal({{"model", path("moved")}, {"ffn", 0.5}, {"calibration", path("statistics")}});
  const std::string whose = facts(*root_ / "statistics")["model"].get<std::string>().substr(0, 16);
  EXPECT_NE(words.find(whose), std::string::npos) << words;
  EXPECT_NE(words.find(checkpoint_fingerprint(load_checkpoint(path("moved"))).substr(0, 16)), std::string::npos) << "both are named: " << words;
  EXPECT_NE(refusal(pruning({{"ffn", 0.5}, {"criterion", "magnitude"}, {"calibration", path("statistics")}})).find("criterion activation"),
            std::string::npos);
  EXPECT_NE(refusal(pruning({{"method", "sparsegpt"}, {"calibration", path("statistics")}})).find("wanda"), std::string::npos);
  EXPECT_NE(refusal(pruning({{"ffn", 0.5}, {"calibration", path("model")}})).find("calibrate stage"), std::string::npos);
}

/// Widths and types under one limit: the types that the search promised are those of the file, and so are its bytes.
TEST_F(PruneStage, TypesAndWidthsShareTheBytesThatWerePromised) {
  run("export", {{"model", path("model")}, {"format", "gguf"}, {"type", "q8_0"}}, "joint_whole.gguf");
  const auto limit = static_cast<int64_t>(0.55 * static_cast<double>(fs::file_size(path("joint_whole.gguf"))));
  const Json search = {{"bytes", limit}, {"types", {"q4_0", "q5_0", "q8_0"}}, {"type_rows", 4}, {"hidden", Json::array({1})}, {"kv_heads", {1, 0.5}},
                       {"depth", Json::array({0.5})}, {"finalists", 2}, {"rows", 8}, {"recovery_steps", 2}, {"recovery_batch", 4}};
  const fs::path pruned = run("prune", pruning({{"search", search}, {"multiple", 32}}), "joint");
  const Json table = facts(pruned)["search"]["candidates"], best = table[0];
  ASSERT_GT(table.size(), 1u);
  bool fills = false;
  for (const Json& one : table) {
    EXPECT_LE(one["cost"].get<double>(), static_cast<double>(limit));
    fills = fills || (one["types"].size() > 2 && one["cost"].get<double>() > 0.9 * static_cast<double>(limit));
  }
  EXPECT_TRUE(fills) << "several types together use what one throughout would leave: " << table;
  int64_t weights = 0;
  for (const auto& [type, count] : best["types"].items()) weights += count.get<int64_t>();
  EXPECT_EQ(weights, 7 * best["layers"].get<int64_t>() + 1);
  run("distill", {{"model", path("joint")}, {"teacher", path("model")}, {"data", data()}, {"train", training(3)}}, "joint_tuned");
  const fs::path rounded = run("quantize", {{"model", path("joint_tuned")}, {"budget", {{"plan", path("joint")}}}}, "joint_rounded");
  const Json promised = read_json(pruned / "types.json")["types"];
  const Checkpoint model = load_checkpoint(rounded);
  ASSERT_EQ(promised.size(), model.codes.size());
  for (const auto& [name, code] : model.codes) EXPECT_EQ(promised[name], ggml_type_info(code.type).name) << name;
  const fs::path file = run("export", {{"model", path("joint_rounded")}, {"format", "gguf"}}, "joint.gguf");
  const auto bytes = static_cast<double>(fs::file_size(file)), cost = best["cost"].get<double>();
  EXPECT_LE(bytes, cost);
  EXPECT_GT(bytes, cost - 2048) << "a little room for the metadata's names";

  const auto refusal = [&](const std::string& kind, const Json& config) {
    try {
      run(kind, config, "x");
      return std::string("none");
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  Json tight = search;
  tight["bytes"] = 2000;
  const std::string words = refusal("prune", pruning({{"search", tight}, {"multiple", 32}}));
  EXPECT_NE(words.find("the smallest shape of these shares"), std::string::npos) << words;
  const int64_t nearest = std::stoll(words.substr(words.find("a limit of ") + 11));
  tight["bytes"] = nearest, tight["finalists"] = 0;
  const Json least = facts(run("prune", pruning({{"search", tight}, {"multiple", 32}}), "tight"))["search"]["candidates"][0];
  EXPECT_LE(least["cost"].get<double>(), static_cast<double>(nearest));
  tight["bytes"] = nearest - 1;
  EXPECT_NE(refusal("prune", pruning({{"search", tight}, {"multiple", 32}})).find("the smallest shape"), std::string::npos) << "nothing is nearer";
  EXPECT_NE(refusal("quantize", {{"model", path("model")}, {"budget", {{"plan", path("joint")}}}}).find("another model's"), std::string::npos);
  EXPECT_NE(refusal("quantize", {{"model", path("joint")}, {"budget", {{"plan", path("model")}}}}).find("search.types"), std::string::npos);
  EXPECT_NE(refusal("quantize", {{"model", path("joint")}, {"data", data()}, {"budget", {{"plan", path("joint")}, {"bits", 5}}}}).find("several"),
            std::string::npos);
  Json unknown = search;
  unknown["types"] = Json::array({"q4_9"});
  EXPECT_NE(refusal("prune", pruning({{"search", unknown}})).find("q4_9"), std::string::npos);
}

/// Stopped while finalists are recovered, and (by a state that knows less) while shapes are measured: the same bytes and table, and what was measured
/// is not measured again.
TEST_F(PruneStage, AStoppedSearchGoesOnToTheSameBytesAndTable) {
  const int64_t whole = parameter_count(load_spec(path("model")));
  const Json config = pruning({{"search",
                                {{"parameters", whole / 2},
                                 {"hidden", {1, 0.5}},
                                 {"kv_heads", {1, 0.5}},
                                 {"depth", {1, 0.5}},
                                 {"finalists", 2},
                                 {"rows", 8},
                                 {"recovery_steps", 4},
                                 {"recovery_batch", 4}}}});
  const fs::path wanted = run("prune", config, "undisturbed");
  const Json table = facts(wanted)["search"];
  const size_t count = table["candidates"].size();
  ASSERT_GT(count, 3u);

  // Files stand where recoveries would make their folders: each stops the stage at a moment that is known.
  const fs::path place = *root_ / "stopped", work = *root_ / ".stopped.work";
  make_folder(work);
  write_file(work / "key", read_json(wanted / "manifest.json")["key"].get<std::string>());
  const auto blocked = [&](size_t number) { return work / str("candidate_", number); };
  for (size_t i = 0; i < count; ++i) write_file(blocked(i), "in the way");
  EXPECT_ANY_THROW(run("prune", config, "stopped"));
  ASSERT_FALSE(fs::exists(place));
  Json state = read_json(work / "search.json");
  ASSERT_EQ(state["candidates"].size(), count);
  size_t best = 0, worst = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto loss = [&](size_t k) { return state["candidates"][k]["loss"].get<double>(); };
    EXPECT_TRUE(state["candidates"][i]["recovered"].is_null());
    if (loss(i) < loss(best)) best = i;
    if (loss(i) > loss(worst)) worst = i;
  }
  fs::remove(blocked(best));
  EXPECT_ANY_THROW(run("prune", config, "stopped"));
  EXPECT_TRUE(read_json(work / "search.json")["candidates"][best]["recovered"].is_number()) << "the first recovery is kept";
  for (size_t i = 0; i < count; ++i) fs::remove_all(blocked(i));
  const fs::path got = run("prune", config, "stopped");
  EXPECT_EQ(read_file(got / "model.safetensors"), read_file(wanted / "model.safetensors"));
  EXPECT_EQ(facts(got)["search"], table);
  EXPECT_FALSE(fs::exists(work));

  // As if it had been killed after a few shapes; one of them has a loss that no measurement gives.
  for (size_t i = 0; i < count; ++i)
    if (i != worst && i % 2 == 1) state["candidates"][i]["loss"] = nullptr;
  state["candidates"][worst]["loss"] = 1234.5;
  make_folder(*root_ / ".resumed.work");
  write_file(*root_ / ".resumed.work" / "key", read_json(wanted / "manifest.json")["key"].get<std::string>());
  write_json(*root_ / ".resumed.work" / "search.json", state);
  const fs::path resumed = run("prune", config, "resumed");
  EXPECT_EQ(read_file(resumed / "model.safetensors"), read_file(wanted / "model.safetensors"));
  Json losses = facts(resumed)["search"];
  EXPECT_EQ(losses["candidates"][count - 1]["loss"], 1234.5) << "what was known was not measured again";
  losses["candidates"][count - 1]["loss"] = table["candidates"][count - 1]["loss"];
  EXPECT_EQ(losses, table);
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
