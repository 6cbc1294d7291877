#include "formats/onnx.h"

#include <cmath>

#include "base/check.h"
#include "base/json.h"
#include "data_path.h"
#include "export/export.h"
#include "export/tiny_model.h"

namespace attar {
namespace {

ExportConfig onnx_type(const std::string& type) {
  ExportConfig config;
  config.format = "onnx";
  config.type = type;
  return config;
}

int64_t nodes_of(const OnnxFile& file, const std::string& op) {
  return std::count_if(file.nodes().begin(), file.nodes().end(), [&](const OnnxNode& node) { return node.op == op; });
}

TEST(ExportOnnx, Float32ComesBackUnchanged) {
  TestFolder folder;
  for (const char* family : {"llama", "qwen3", "gemma", "phi3"}) {
    const Checkpoint model = tiny_model(tiny_spec(family));
    const ExportReport report = export_onnx(model, onnx_type("fp32"), folder / "m");
    EXPECT_EQ(report.elements_proven, parameter_count(model.spec));
    const Checkpoint again = load_checkpoint(folder / "m", {});
    EXPECT_EQ(again.spec, model.spec) << family;
    for (const auto& [name, weight] : model.weights) EXPECT_TRUE(at::equal(weight, again.weights.at(name))) << name;
    EXPECT_EQ(again.license, "apache-2.0");
    EXPECT_TRUE(fs::exists(folder / "m/config.json"));
    EXPECT_FALSE(fs::exists(folder / "m/.unproven"));
  }
}

TEST(ExportOnnx, CodesMapOneToOne) {
  TestFolder folder;
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q8_0}) {
    const Checkpoint model = quantized_model(type);
    export_onnx(model, onnx_type(""), folder / "m");
    const OnnxFile file(folder / "m/model.onnx");
    EXPECT_EQ(nodes_of(file, "MatMulNBits"), 15);
    EXPECT_EQ(nodes_of(file, "GatherBlockQuantized"), 1);
    for (const OnnxNode& node : file.nodes()) EXPECT_EQ(node.attributes.count("accuracy_level"), 0u);
    const Checkpoint again = load_checkpoint(folder / "m", {});
    for (const auto& [name, code] : model.codes) EXPECT_TRUE(at::equal(code.blocks, again.codes.at(name).blocks)) << name;
    for (const auto& [name, weight] : model.weights) EXPECT_TRUE(at::equal(weight, again.weights.at(name))) << name;
  }
}

TEST(ExportOnnx, GridsWithoutAnOperatorAreStoredAsValuesAndSaid) {
  TestFolder folder;
  const Checkpoint model = quantized_model(GgmlType::q5_1);
  const ExportReport report = export_onnx(model, onnx_type(""), folder / "m");
  EXPECT_NE(report.notes.front().find("q5_1"), std::string::npos);
  const Checkpoint again = load_checkpoint(folder / "m", {});
  for (const auto& [name, weight] : model.weights) EXPECT_TRUE(at::equal(weight, again.weights.at(name))) << name;
}

TEST(ExportOnnx, ErrorsOfTensorsAreThoseOfTheFile) {
  TestFolder folder;
  const Checkpoint model = tiny_model();
  for (const char* type : {"fp32", "fp16", "int8", "int4"}) {
    ExportConfig config;
    config.type = type;
    ExportReport report = export_onnx(model, config, folder.path());
    add_onnx_errors(folder / "model.onnx", model, report.tensors);
    const Checkpoint read = load_checkpoint(folder.path());
    ASSERT_EQ(report.tensors.size(), model.weights.size());
    for (const Json& tensor : report.tensors) {
      const auto name = tensor.at("name").get<std::string>();
      const at::Tensor wanted = model.weights.at(name).to(at::kDouble), got = read.weights.at(name).to(at::kDouble);
      const double error = std::sqrt(((got - wanted).square().sum() / wanted.square().sum()).item<double>());
      EXPECT_NEAR(tensor.at("error").get<double>(), error, 1e-9) << type << " " << name;
      EXPECT_EQ(error > 0, wanted.dim() == 2 && std::string(type) != "fp32") << type << " " << name;
    }
  }
}

TEST(ExportOnnx, TiedOutputSharesTheEmbeddingsBytes) {
  TestFolder folder;
  for (const char* type : {"fp32", "fp16", "int8", "int4"}) {
    export_onnx(tiny_model(tiny_spec("gemma")), onnx_type(type), folder / "m");
    const OnnxFile file(folder / "m/model.onnx");
    EXPECT_EQ(file.initializers().count("lm_head.weight"), 0u);
    EXPECT_TRUE(compare_with_model(folder / "m", tiny_model(tiny_spec("gemma"))).empty()) << type;
  }
}

TEST(ExportOnnx, AnotherModelIsToldApart) {
  TestFolder folder;
  Checkpoint model = tiny_model();
  for (const char* type : {"fp16", "int8", "int4"}) {
    export_onnx(model, onnx_type(type), folder / type);
    EXPECT_TRUE(compare_with_model(folder / type, model).empty()) << type;
  }
  model.weights.at("model.layers.0.mlp.down_proj.weight")[3][90] += 1;
  for (const char* type : {"fp16", "int8", "int4"}) {
    const std::vector<Fault> faults = compare_with_model(folder / type, model);
    ASSERT_FALSE(faults.empty()) << type;
    EXPECT_NE(faults.front().what.find("model.layers.0.mlp.down_proj.weight at [3, "), std::string::npos) << faults.front().what;
  }
}

TEST(ExportOnnx, DamagedWeightsAreNamedAndLeaveNoModel) {
  TestFolder folder;
  for (const char* type : {"fp16", "int8", "int4"}) {
    Checkpoint model = tiny_model();
    model.weights.at("model.layers.0.mlp.up_proj.weight")[2][3] = NAN;
    try {
      export_onnx(model, onnx_type(type), folder / "m");
      FAIL() << type;
    } catch (const Error& error) {
      const std::string line = error.faults().front().line();
      EXPECT_NE(line.find("model.layers.0.mlp.up_proj.weight"), std::string::npos) << line;
      EXPECT_NE(line.find("[2, 3]"), std::string::npos) << line;
    }
    EXPECT_TRUE(fs::is_empty(folder / "m"));
  }
  EXPECT_THROW(export_onnx(tiny_model(), onnx_type("int5"), folder / "m"), Error);
}

TEST(ExportOnnx, GenaiFolderNamesWhatTheGraphHas) {
  TestFolder folder;
  ExportConfig config = onnx_type("int4");
  config.genai = true;
  export_onnx(tiny_model(), config, folder / "m");
  const Json facts = read_json(folder / "m/genai_config.json").at("model");
  EXPECT_EQ(facts.at("type"), "llama");
  EXPECT_EQ(facts.at("decoder").at("num_key_value_heads"), 2);
  EXPECT_EQ(facts.at("decoder").at("head_size"), 32);
}

TEST(ExportOnnx, LayersMayDifferInWidthInEveryFormat) {
  TestFolder folder;
  ModelSpec spec = tiny_spec();
  spec.layers[1].ffn = 32;
  spec.layers[1].heads = spec.layers[1].kv_heads = 1;
  const Checkpoint model = tiny_model(spec);
  export_onnx(model, onnx_type("fp32"), folder / "onnx");
  export_gguf(model, onnx_type("f32"), folder / "m.gguf");
  for (const char* place : {"onnx", "m.gguf"}) {
    const Checkpoint again = load_checkpoint(folder / place, {});
    EXPECT_EQ(again.spec.layers, spec.layers) << place;
    for (const auto& [name, weight] : model.weights) EXPECT_TRUE(at::equal(weight, again.weights.at(name))) << place << " " << name;
  }
}

TEST(ExportHf, FolderHoldsTheSameTensors) {
  TestFolder folder;
  const Checkpoint model = quantized_model(GgmlType::q4_0);
  const ExportReport report = export_hf(model, {}, folder / "m");
  EXPECT_EQ(report.elements_proven, parameter_count(model.spec));
  const Checkpoint again = load_checkpoint(folder / "m", {});
  EXPECT_EQ(again.codes.size(), model.codes.size());
  EXPECT_TRUE(compare_with_model(folder / "m", model).empty());
  Checkpoint other = model;
  other.weights["model.norm.weight"] = model.weights.at("model.norm.weight") + 1;
  EXPECT_FALSE(compare_with_model(folder / "m", other).empty());
  const ExportReport half = export_hf(model, onnx_type("bf16"), folder / "h");
  EXPECT_NE(half.notes.front().find("codes are not written"), std::string::npos);
}

}  // namespace
}  // namespace attar
