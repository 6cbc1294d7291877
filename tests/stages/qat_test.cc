#include "quant/training_grid.h"

#include <ATen/ATen.h>

#include <set>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "quant/type_plan.h"
#include "report/run_log.h"
#include "stages/run.h"
#include "train/snapshot.h"
#include "train/trainer.h"

namespace attar {
namespace {

/// A model whose rows hold superblocks, that has learned a little.
class Qat : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_up_machine(1);
    root_ = new fs::path(fs::temp_directory_path() / ("attar_qat_test_" + std::to_string(::getpid())));
    fs::remove_all(*root_);
    make_folder(*root_);
    std::string text;
    for (int i = 0; i < 120; ++i) text += str("The ", i % 7, "th letter of street ", i % 11, " was sent on day ", i % 5, " and came early.\n\n");
    write_file(*root_ / "text.txt", text);
    write_file(*root_ / "model.yaml", "hidden_size: 256\nintermediate_size: 256\nnum_hidden_layers: 1\nnum_attention_heads: 4\n"
                                      "num_key_value_heads: 2\nmax_position_embeddings: 64\ntie_word_embeddings: true\n");
    run("train_tokenizer", {{"data", path("text.txt")}, {"vocab_size", 300}}, "tokens");
    run("distill", {{"model", path("model.yaml")}, {"tokens", path("tokens")}, {"data", data()}, {"train", training(40, 3e-3)}}, "model");
  }
  static void TearDownTestSuite() {
    fs::remove_all(*root_);
    delete root_;
  }
  static std::string path(const std::string& name) { return (*root_ / name).string(); }
  static Json data() { return {{"path", path("text.txt")}, {"seq", 32}}; }
  static Json training(int64_t steps, double lr) {
    return {{"steps", steps}, {"batch", 4}, {"warmup", 1}, {"lr", lr}, {"eval_every", 1000}, {"weight_decay", 0.0}};
  }
  static fs::path run(const std::string& kind, const Json& configuration, const std::string& out) {
    LoneStage stage;
    stage.kind = kind, stage.configuration = configuration, stage.out = *root_ / out, stage.seed = 3;
    fs::remove_all(stage.out);
    run_lone_stage(stage);
    return stage.out;
  }
  static Json quantized(const std::string& scheme, int64_t steps, double lr, const Json& more = Json::object()) {
    Json out = {{"model", path("model")}, {"scheme", scheme}, {"method", "qat"}, {"teacher", path("model")}, {"data", data()},
                {"calibration_rows", 8}, {"train", training(steps, lr)}};
    out.merge_patch(more);
    return out;
  }
  static Json facts(const fs::path& out) { return read_json(out / "manifest.json")["facts"]; }
  /// KL on held-out rows of the model as it lies there, by a training that moves nothing.
  static double judged(const std::string& model) {
    const Json config = {{"model", path(model)}, {"teacher", path("model")}, {"data", data()}, {"train", training(1, 0)}};
    return facts(run("distill", config, "judged"))["held_out_loss"].get<double>();
  }
  static std::map<std::string, at::Tensor> codes(const fs::path& folder) {
    std::map<std::string, at::Tensor> out;
    for (const auto& [name, tensor] : load_checkpoint(folder).codes) out[name] = tensor.blocks;
    return out;
  }
  using Blocks = std::map<std::string, at::Tensor>;
  static void expect_equal(const Blocks& a, const Blocks& b, bool wanted, const std::string& label) {
    ASSERT_EQ(a.size(), b.size()) << label;
    bool same = true;
    for (const auto& [name, tensor] : a) same = same && at::equal(tensor, b.at(name));
    EXPECT_EQ(same, wanted) << label;
  }
  static fs::path* root_;
};
fs::path* Qat::root_ = nullptr;

TEST_F(Qat, MastersAreTheFloatsWhoseRoundingIsTheFile) {
  const fs::path out = run("quantize", quantized("q4_0", 2, 1e-3, {{"masters", "f32"}}), "qat");
  Checkpoint masters = load_checkpoint(out / "masters");
  std::map<std::string, GgmlType> types;
  const Checkpoint file = load_checkpoint(out);
  for (const auto& [name, code] : file.codes) {
    types[name] = code.type;
    EXPECT_FALSE(at::equal(masters.weights.at(name), file.weights.at(name))) << name;
  }
  quantize_checkpoint(masters, types);
  expect_equal([&] {
    Blocks blocks;
    for (const auto& [name, code] : masters.codes) blocks[name] = code.blocks;
    return blocks;
  }(), codes(out), true, "f32");
}

/// The last forward pass of a training is that over the held-out rows. The result's folder gives the very same number, and its file the very
/// same weights.
TEST_F(Qat, FileHasTheWeightsOfTheLastForwardForEveryScheme) {
  for (const char* scheme : {"q4_0", "q4_1", "q5_0", "q8_0", "q4_k", "q5_k", "q6_k", "q2_k", "q3_k", "tq2_0", "int4"}) {
    const fs::path out = run("quantize", quantized(scheme, 2, 1e-3), "qat");
    EXPECT_EQ(facts(out)["held_out_loss"].get<double>(), judged("qat")) << scheme;
    const fs::path exported = run("export", {{"model", path("qat")}, {"format", "gguf"}}, "file.gguf");
    const Checkpoint folder = load_checkpoint(out), file = load_checkpoint(exported);
    const GgmlType type = ggml_type_named(std::string(scheme) == "int4" ? "q4_0" : scheme);
    ASSERT_EQ(folder.codes.size(), 8u) << scheme;
    ASSERT_EQ(file.codes.size(), 8u) << scheme;
    for (const auto& [name, weight] : folder.weights) {
      EXPECT_TRUE(at::equal(weight, file.weights.at(name))) << scheme << " " << name;
      if (!folder.codes.count(name)) continue;
      EXPECT_EQ(file.codes.at(name).type, type) << scheme << " " << name;
      EXPECT_TRUE(at::equal(folder.codes.at(name).blocks, file.codes.at(name).blocks)) << scheme << " " << name;
    }
  }
}

/// ONNX's int8: one scale a row, in fp32. The ONNX file has the trained numbers; GGUF has no type for them and writes their values.
TEST_F(Qat, Int8RowsReachTheOnnxFile) {
  const std::vector<Json> options = {Json::object(), {{"start", "search"}}, {{"scales", "learned"}, {"activations", "int8"}}, {{"delay", 1}},
                                     {{"lora", {{"rank", 4}}}}};
  for (const Json& option : options) {
    const fs::path out = run("quantize", quantized("int8", 3, 1e-3, option), "qat");
    EXPECT_EQ(facts(out)["tensor_bytes"].get<int64_t>(), tensor_bytes(load_spec(out), plan_types(load_spec(out), "int8", false, true, false).types));
    if (!option.contains("activations")) { EXPECT_EQ(facts(out)["held_out_loss"].get<double>(), judged("qat")) << option; }
    const Checkpoint folder = load_checkpoint(out), file = load_checkpoint(run("export", {{"model", path("qat")}, {"format", "onnx"}}, "onnx"));
    ASSERT_EQ(folder.codes.size(), 8u);
    ASSERT_EQ(file.codes.size(), 8u);
    for (const auto& [name, weight] : folder.weights) {
      EXPECT_TRUE(at::equal(weight, file.weights.at(name))) << option << " " << name;
      if (!folder.codes.count(name)) continue;
      EXPECT_EQ(folder.codes.at(name).type, GgmlType::i8);
      EXPECT_TRUE(at::equal(folder.codes.at(name).blocks, file.codes.at(name).blocks)) << option << " " << name;
      EXPECT_TRUE(at::equal(folder.codes.at(name).scales, file.codes.at(name).scales)) << option << " " << name;
    }
  }
  const Checkpoint folder = load_checkpoint(path("qat"));
  const Checkpoint gguf = load_checkpoint(run("export", {{"model", path("qat")}, {"format", "gguf"}}, "int8.gguf"));
  for (const auto& [name, weight] : folder.weights) EXPECT_TRUE(at::equal(weight, gguf.weights.at(name))) << name;
  const fs::path copy = run("export", {{"model", path("qat")}, {"format", "hf"}}, "copy");
  EXPECT_TRUE(at::equal(load_checkpoint(copy).codes.begin()->second.scales, folder.codes.begin()->second.scales));
  // Rounding once gives what an export of type int8 gives.
  Json plain = quantized("int8", 1, 0);
  plain["method"] = "ptq";
  const Checkpoint rounded = load_checkpoint(run("quantize", plain, "plain"));
  const Checkpoint exported = load_checkpoint(run("export", {{"model", path("model")}, {"format", "onnx"}, {"type", "int8"}}, "typed"));
  for (const auto& [name, weight] : rounded.weights) EXPECT_TRUE(at::equal(weight, exported.weights.at(name))) << name;
  plain["method"] = "gptq";
  EXPECT_THROW(run("quantize", plain, "x"), Error);
  EXPECT_THROW(run("quantize", quantized("int8", 2, 1e-3, {{"start", "gptq"}}), "x"), Error);
}

TEST_F(Qat, RecoversWhatFewBitsLose) {
  for (const char* scheme : {"q2_k", "tq2_0"}) {
    Json plain = quantized(scheme, 1, 0);
    plain["method"] = "ptq";
    run("quantize", plain, "plain");
    const double before = judged("plain"), after = facts(run("quantize", quantized(scheme, 25, 1e-4), "recovered"))["held_out_loss"].get<double>();
    EXPECT_LT(after, 0.8 * before) << scheme;
    const auto log = read_run_log(*root_ / "recovered" / "log.jsonl");
    EXPECT_LT(log.back()["loss"].get<double>(), 0.8 * log.front()["loss"].get<double>()) << scheme;
  }
}

TEST_F(Qat, BeginsWithTheSolutionAndMovesNoCodeByItself) {
  for (const char* method : {"search", "gptq"}) {
    Json solution = quantized("q4_0", 1, 0);
    solution["method"] = method;
    const auto wanted = codes(run("quantize", solution, "solution"));
    for (const char* scales : {"auto", "learned"})
      expect_equal(codes(run("quantize", quantized("q4_0", 1, 0, {{"start", method}, {"scales", scales}}), "begun")), wanted, true,
                   str(method, " ", scales));
    expect_equal(codes(run("quantize", quantized("q4_0", 6, 2e-3, {{"start", method}}), "moved")), wanted, false, method);
  }
  Json solution = quantized("q3_k", 1, 0);
  solution["method"] = "gptq";
  expect_equal(codes(run("quantize", quantized("q3_k", 1, 0, {{"start", "gptq"}}), "begun")), codes(run("quantize", solution, "solution")), true,
               "q3_k");
}

/// Block reconstruction of each kind of grid: the facts say that no layer is worse than it began, the model is nearer, and the exported file, which
/// its own proof has read again, has the stage's blocks. QAT begins with them.
TEST_F(Qat, RoundingReachesTheFileAndIsAStart) {
  for (const char* scheme : {"q4_0", "q4_1", "q2_k", "tq2_0", "int4"}) {
    Json learned = quantized(scheme, 1, 0, {{"rounding", {{"steps", 40}}}}), begun = learned;
    learned["method"] = "rounding", begun["method"] = "search";
    learned.erase("teacher"), begun.erase("teacher");
    const Blocks search = codes(run("quantize", begun, "begun"));
    const double before = judged("begun");
    const fs::path out = run("quantize", learned, "learned");
    const Json said = facts(out)["rounding"];
    EXPECT_EQ(said["improved_layers"], 1) << scheme;
    EXPECT_LT(said["layers"][0]["after"].get<double>(), said["layers"][0]["before"].get<double>()) << scheme;
    EXPECT_LT(judged("learned"), before) << scheme;
    const fs::path exported = run("export", {{"model", path("learned")}, {"format", "gguf"}}, "file.gguf");
    const Checkpoint folder = load_checkpoint(out), file = load_checkpoint(exported);
    ASSERT_EQ(file.codes.size(), 8u) << scheme;
    for (const auto& [name, weight] : folder.weights) {
      EXPECT_TRUE(at::equal(weight, file.weights.at(name))) << scheme << " " << name;
      if (!folder.codes.count(name)) continue;
      EXPECT_TRUE(at::equal(folder.codes.at(name).blocks, file.codes.at(name).blocks)) << scheme << " " << name;
      EXPECT_EQ(at::equal(folder.codes.at(name).blocks, search.at(name)), name == "model.embed_tokens.weight") << scheme << " " << name;
    }
    if (std::string(scheme) == "q4_0" || std::string(scheme) == "q2_k") {
      const Blocks wanted = codes(out), again = codes(run("quantize", learned, "learned"));
      expect_equal(again, wanted, true, scheme);
      const Json start = {{"start", "rounding"}, {"rounding", learned["rounding"]}};
      expect_equal(codes(run("quantize", quantized(scheme, 1, 0, start), "trained")), wanted, true, scheme);
    }
  }
}

TEST_F(Qat, RoundingRefusesWhatItCannotDo) {
  const std::vector<std::pair<Json, const char*>> wrong = {
      {{{"start", "gptq"}}, "rounding.start"},
      {{{"rounding", {{"start", "qat"}}}}, "rounding.start"},
      {{{"rounding", {{"steps", 0}}}}, "rounding.steps"},
      {{{"rounding", {{"rows", 0}}}}, "rounding.rows"},
      {{{"rounding", {{"lr", -0.1}}}}, "rounding.lr"},
      {{{"scheme", "int8"}}, "q8_0"},
      {{{"scales", "learned"}}, "method: qat"},
      {{{"lora", {{"rank", 4}}}}, "method: qat"},
      {{{"teacher", path("model")}}, "method: qat"},
  };
  for (const auto& [option, words] : wrong) {
    Json config = quantized("q4_0", 1, 0, option);
    config["method"] = "rounding";
    if (!option.contains("teacher")) config.erase("teacher");
    try {
      run("quantize", config, "x");
      ADD_FAILURE() << option;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(run("quantize", quantized("q4_0", 2, 1e-3, {{"start", "rounding"}, {"delay", 1}}), "x"), Error);
}

/// Types chosen for a budget are rounded like any others.
TEST_F(Qat, RoundingTakesTheTypesOfABudget) {
  const Json budget = {{"bits", 5.5}, {"types", {"q4_0", "q8_0"}}, {"rows", 2}};
  Json config = quantized("q4_0", 1, 0, {{"rounding", {{"steps", 40}}}, {"budget", budget}});
  config["method"] = "rounding";
  config.erase("teacher");
  const fs::path out = run("quantize", config, "budgeted");
  std::set<GgmlType> types;
  for (const auto& [name, code] : load_checkpoint(out).codes) types.insert(code.type);
  EXPECT_EQ(types, (std::set<GgmlType>{GgmlType::q4_0, GgmlType::q8_0}));
  EXPECT_EQ(facts(out)["rounding"]["improved_layers"], 1);
}

TEST_F(Qat, EveryOptionEndsInTheFileThatWasTrained) {
  const std::map<std::string, Json> options = {
      {"learned", {{"scales", "learned"}, {"start", "search"}}},
      {"learned, after a delay", {{"scales", "learned"}, {"start", "search"}, {"delay", 2}}},
      {"kept", {{"scales", "kept"}}},
      {"delayed", {{"delay", 2}}},
      {"adapters", {{"lora", {{"rank", 4}}}}},
      {"adapters on learned scales", {{"lora", {{"rank", 4}}}, {"scales", "learned"}, {"start", "gptq"}}},
      {"weights of layers alone", {{"embeddings", false}}},
  };
  std::map<std::string, std::map<std::string, at::Tensor>> all;
  for (const auto& [label, option] : options) {
    const fs::path out = run("quantize", quantized("q4_0", 4, 1e-3, option), "option");
    EXPECT_EQ(facts(out)["held_out_loss"].get<double>(), judged("option")) << label;
    if (!option.contains("embeddings")) all[label] = codes(out);
  }
  for (auto a = all.begin(); a != all.end(); ++a)
    for (auto b = std::next(a); b != all.end(); ++b) expect_equal(a->second, b->second, false, a->first + " and " + b->first);
}

TEST_F(Qat, AdaptersAloneAreTrained) {
  const fs::path out = run("quantize", quantized("q4_0", 3, 1e-3, {{"lora", {{"rank", 2}, {"targets", {"q_proj"}}}}}), "adapted");
  const Checkpoint before = load_checkpoint(path("model")), after = load_checkpoint(out);
  EXPECT_EQ(facts(out)["adapter_parameters"], 2 * 2 * 256);
  Json plain = quantized("q4_0", 1, 0);
  plain["method"] = "ptq";
  const Checkpoint rounded = load_checkpoint(run("quantize", plain, "plain"));
  for (const auto& [name, weight] : after.weights)
    EXPECT_EQ(at::equal(weight, rounded.weights.at(name)), !name.ends_with("q_proj.weight")) << name;
  EXPECT_FALSE(fs::exists(out / "adapter")) << "added to the full weights it would be another model";
}

TEST_F(Qat, ActivationsAreRoundedInTheForward) {
  const auto first_loss = [](const std::string& activations) {
    const fs::path out = run("quantize", quantized("q8_0", 2, 1e-4, {{"activations", activations}}), "rounded");
    return read_run_log(out / "log.jsonl").front()["loss"].get<double>();
  };
  const double none = first_loss("none"), blocks = first_loss("q8_0"), bytes = first_loss("int8");
  EXPECT_NE(none, blocks);
  EXPECT_NE(none, bytes);
  EXPECT_NE(blocks, bytes);
}

TEST_F(Qat, ReportSaysWhatACacheOfFewerBitsCosts) {
  const auto measured = [](const std::string& type) {
    return run("evaluate", {{"of", Json::array({path("model")})}, {"text", path("text.txt")}, {"ctx", 64}, {"text_tokens", 512}, {"latency", false},
                            {"kv_cache", type}}, "judged");
  };
  double last = 0;
  for (const char* type : {"f16", "q8_0", "q4_0"}) {
    const fs::path out = measured(type);
    const Json artifact = read_json(out / "report.json")["artifacts"][path("model")], cost = artifact["kv_cache"];
    EXPECT_EQ(cost["type"], type);
    const double kl = cost["kld"]["mean"].get<double>(), plain = artifact["perplexity"]["value"].get<double>();
    EXPECT_GT(kl, last) << type;
    last = kl;
    EXPECT_NEAR(cost["perplexity"]["value"].get<double>(), plain, (std::string(type) == "f16" ? 1e-3 : 0.2) * plain);
  }
  EXPECT_THROW(measured("q5_0"), Error);
}

TEST_F(Qat, ContradictionsAreRefused) {
  const std::vector<Json> wrong = {
      {{"start", "magic"}}, {{"scales", "magic"}}, {{"activations", "int4"}}, {{"delay", -1}}, {{"delay", 2}}, {{"scale_lr", -1.0}},
      {{"start", "search"}, {"scales", "recomputed"}}, {{"start", "gptq"}, {"scales", "learned"}, {"delay", 1}},
      {{"start", "search"}, {"delay", 1}}, {{"scheme", "q4_k"}, {"scales", "learned"}},
  };
  for (const Json& option : wrong) EXPECT_THROW(run("quantize", quantized("q4_0", 2, 1e-3, option), "x"), Error) << option.dump();
}

/// Numbers that depend on their position alone.
class NumberedSource : public Source {
 public:
  void next(Batch& batch) override { batch.columns["x"] = at::sin(at::arange(64, at::kFloat) * 0.3 + static_cast<double>(position_++)); }
  int64_t position() const override { return position_; }
  void seek(int64_t position) override { position_ = position; }

 private:
  int64_t position_ = 0;
};

/// A weight on a grid whose scales are learned; stops with an Error after `die_after` steps, if that is above 0.
std::map<std::string, at::Tensor> train_with_scales(const fs::path& folder, int64_t die_after, int64_t delay, int64_t snapshot_every) {
  const at::Tensor weight = (0.2 * at::cos(at::arange(8 * 64, at::kFloat))).view({8, 64}).clone();
  TrainingGrid grid({{"w", GgmlType::q4_0}}, {}, {{"w", quantize_tensor(weight, GgmlType::q4_0, nullptr, Rounding::search)}},
                    {.scales = Scales::learned, .rounding = Rounding::search, .delay = delay});
  const auto hook = grid.hook();
  const at::Tensor scales = grid.parameters().at(0).second;
  weight.requires_grad_(true);
  TrainerOptions options;
  options.config.steps = 9, options.config.warmup = 1, options.config.lr = 0.01, options.config.snapshot_every = snapshot_every;
  make_folder(folder);
  options.folder = folder, options.fingerprint = "f";
  options.before_step = [&](int64_t step) {
    check(die_after == 0 || step < die_after, "power", "some", "none");
    grid.begin_step(step, {{"w", weight}});
  };
  NumberedSource source;
  const auto group = process_group_from_environment();
  train({{"w", weight, false}, {"w.scales", scales, false, 0.1}},
        [&](const Batch& batch) { return StepLoss{(at::mv(hook("w", weight), batch.at("x")) - 1).square().sum(), 8, {}}; }, source, *group, options);
  Checkpoint model;
  model.weights["w"] = weight.detach().clone();
  grid.write(model);
  return {{"weight", weight.detach()}, {"scales", scales.detach()}, {"codes", model.codes.at("w").blocks}};
}

TEST(QatResumes, WithWeightsAndScalesOfOneSnapshotToTheSameBytes) {
  for (const int64_t delay : {0, 4})
    for (const int64_t every : {2, 3}) {
      TestFolder folder;
      const fs::path whole = folder.path() / "whole", killed = folder.path() / "killed";
      const auto wanted = train_with_scales(whole, 0, delay, every);
      EXPECT_THROW(train_with_scales(killed, 5, delay, every), Error);
      Snapshot snapshot;
      ASSERT_TRUE(read_snapshot(killed / "snapshot.safetensors", "f", snapshot));
      EXPECT_TRUE(snapshot.tensors.count("weight.w") && snapshot.tensors.count("weight.w.scales"));
      EXPECT_EQ(get<int64_t>(snapshot.state, "step", "snapshot"), every == 2 ? 4 : 3);
      const auto got = train_with_scales(killed, 0, delay, every);
      for (const auto& [name, tensor] : wanted) EXPECT_TRUE(at::equal(tensor, got.at(name))) << name << " " << delay << " " << every;
    }
}

TEST(QatResumes, AtTheVeryStepWhereTheGridComes) {
  TestFolder folder;
  const fs::path whole = folder.path() / "whole", killed = folder.path() / "killed";
  const auto wanted = train_with_scales(whole, 0, 4, 2);
  EXPECT_THROW(train_with_scales(killed, 4, 4, 2), Error);
  const auto got = train_with_scales(killed, 0, 4, 2);
  for (const auto& [name, tensor] : wanted) EXPECT_TRUE(at::equal(tensor, got.at(name))) << name;
}

TEST(QatResumes, NotFromWeightsWithoutScalesNorFromScalesWithoutWeights) {
  for (const char* lost : {"weight.w", "weight.w.scales", "first.w.scales"}) {
    TestFolder folder;
    EXPECT_THROW(train_with_scales(folder.path(), 6, 0, 2), Error);
    const fs::path file = folder.path() / "snapshot.safetensors";
    Snapshot snapshot;
    ASSERT_TRUE(read_snapshot(file, "f", snapshot));
    ASSERT_EQ(snapshot.tensors.erase(lost), 1u);
    write_snapshot(file, snapshot);
    try {
      train_with_scales(folder.path(), 0, 0, 2);
      FAIL() << lost;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(lost), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace attar
