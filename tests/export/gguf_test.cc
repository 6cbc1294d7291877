#include <cmath>
#include <cstring>
#include <fstream>

#include "base/check.h"
#include "byte_tokenizer.h"
#include "data_path.h"
#include "export/export.h"
#include "export/tensor_errors.h"
#include "export/tiny_model.h"
#include "formats/gguf.h"
#include "spec/gguf_names.h"
#include "tokenizer/gguf_vocab.h"

namespace attar {
namespace {

ExportConfig gguf_type(const std::string& type) {
  ExportConfig config;
  config.type = type;
  return config;
}

std::string gguf_error(const Checkpoint& model, const ExportConfig& config, const fs::path& file) {
  try {
    export_gguf(model, config, file);
  } catch (const Error& error) {
    return error.faults().front().line();
  }
  return "";
}

/// ByteTokenizer with a word on how GGUF readers differ.
class DeviatingTokenizer : public ByteTokenizer {
 public:
  void to_gguf(GgufMetadata& metadata, int64_t, std::vector<std::string>& deviations) const override {
    metadata.set("tokenizer.ggml.model", std::string("llama"));
    deviations.push_back("a unigram vocabulary");
  }
};

/// Loading the file again gives the same values under the same names.
void expect_same_values(const Checkpoint& model, const Checkpoint& again) {
  ASSERT_EQ(model.weights.size(), again.weights.size());
  for (const auto& [name, weight] : model.weights) EXPECT_TRUE(at::equal(weight, again.weights.at(name))) << name;
}

TEST(ExportGguf, F32ComesBackUnchangedForEveryFamily) {
  TestFolder folder;
  for (const char* family : {"llama", "qwen2", "qwen3", "gemma", "phi3"}) {
    const Checkpoint model = tiny_model(tiny_spec(family));
    const ExportReport report = export_gguf(model, gguf_type("f32"), folder / "m.gguf");
    const Checkpoint again = load_checkpoint(folder / "m.gguf", {});
    EXPECT_EQ(again.spec.family, family);
    if (std::string(family) != "gemma") expect_same_values(model, again);  // (1 + w) - 1 rounds
    EXPECT_EQ(report.elements_proven, parameter_count(model.spec)) << family;
    EXPECT_EQ(again.license, "apache-2.0");
    EXPECT_EQ(again.base_model, "someone/tiny");
    EXPECT_TRUE(compare_with_model(folder / "m.gguf", model).empty());
  }
}

TEST(ExportGguf, OwnCodesAreWrittenAsTheyAre) {
  TestFolder folder;
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q8_0}) {
    const Checkpoint model = quantized_model(type);
    export_gguf(model, {}, folder / "m.gguf");
    const GgufFile file(folder / "m.gguf");
    EXPECT_EQ(file.metadata().integer("general.file_type"), type == GgmlType::q4_0 ? 2 : 7);
    EXPECT_EQ(file.metadata().integer("general.quantization_version"), 2);
    EXPECT_EQ(file.find("blk.1.ffn_up.weight")->type, type);
    EXPECT_EQ(file.find("blk.1.ffn_norm.weight")->type, GgmlType::f32);
    const Checkpoint again = load_checkpoint(folder / "m.gguf", {});
    expect_same_values(model, again);
    for (const auto& [name, code] : model.codes) EXPECT_TRUE(at::equal(code.blocks, again.codes.at(name).blocks)) << name;
  }
}

TEST(ExportGguf, HeadsOfQueriesAndKeysAreInterleaved) {
  TestFolder folder;
  const Checkpoint model = tiny_model();
  export_gguf(model, gguf_type("f32"), folder / "m.gguf");
  const GgufFile file(folder / "m.gguf");
  const at::Tensor weight = model.weights.at("model.layers.0.self_attn.k_proj.weight");
  const auto bytes = file.bytes(*file.find("blk.0.attn_k.weight"));
  const auto row = [&](int64_t i) { return bytes.data() + i * 64 * 4; };
  // Head 1 begins at row 32: its file rows 0, 1, 2 are rows 0, 16, 1 of the model's head.
  EXPECT_EQ(std::memcmp(row(32), weight[32].const_data_ptr(), 256), 0);
  EXPECT_EQ(std::memcmp(row(33), weight[48].const_data_ptr(), 256), 0);
  EXPECT_EQ(std::memcmp(row(34), weight[33].const_data_ptr(), 256), 0);
}

TEST(ExportGguf, PresetsFallBackByWidthAndSayIt) {
  TestFolder folder;
  const ExportReport report = export_gguf(tiny_model(), gguf_type("q4_k_m"), folder / "m.gguf");
  std::string all;
  for (const std::string& note : report.notes) all += note + "\n";
  EXPECT_NE(all.find("row of 64 is no multiple of 256: q5_0"), std::string::npos) << all;
  EXPECT_NE(all.find("no tokenizer"), std::string::npos);
  EXPECT_EQ(GgufFile(folder / "m.gguf").metadata().integer("general.file_type"), 15);
  EXPECT_EQ(report.tensors.size(), GgufFile(folder / "m.gguf").tensors().size());
}

/// The file read as any model is, compared weight by weight, in the model's own order of rows.
TEST(ExportGguf, ErrorsOfTensorsAreThoseOfTheFile) {
  const TestFolder folder;
  for (const char* family : {"llama", "phi3", "gemma"}) {
    const Checkpoint model = tiny_model(tiny_spec(family));
    ExportConfig config;
    config.format = "gguf", config.type = "q4_0", config.pure = true;
    ExportReport report = export_gguf(model, config, folder / "out.gguf");
    add_tensor_errors(folder / "out.gguf", model, report.tensors);
    const Checkpoint read = load_checkpoint(folder / "out.gguf");
    std::map<std::string, double> errors;
    for (const Json& tensor : report.tensors) errors[tensor.at("name").get<std::string>()] = tensor.at("error").get<double>();
    for (const GgufMapping& mapping : gguf_mapping(model.spec)) {
      double difference = 0, norm = 0;
      for (const std::string& name : mapping.sources) {
        const at::Tensor wanted = model.weights.at(name).to(at::kDouble), got = read.weights.at(name).to(at::kDouble);
        difference += (got - wanted).square().sum().item<double>(), norm += wanted.square().sum().item<double>();
      }
      // Norms that a family stores with one added have another norm there.
      if (!mapping.add_one) {
        EXPECT_NEAR(errors.at(mapping.gguf), std::sqrt(difference / norm), 1e-9) << family << " " << mapping.gguf;
      }
      EXPECT_EQ(errors.at(mapping.gguf) > 0.01, mapping.matrix) << family << " " << mapping.gguf;
    }
  }
}

TEST(ExportGguf, CodesOfTheAskedTypeAreKept) {
  TestFolder folder;
  const Checkpoint model = quantized_model(GgmlType::q4_0);
  ExportConfig config = gguf_type("q4_0");
  config.pure = true;
  export_gguf(model, config, folder / "m.gguf");
  expect_same_values(model, load_checkpoint(folder / "m.gguf", {}));
}

TEST(ExportGguf, FromAGgufTheSameTensorsComeOut) {
  TestFolder folder;
  ModelSpec spec = tiny_spec();
  spec.rope.kind = "llama3";
  spec.rope.factor = 4;
  spec.rope.original_context = 32;
  export_gguf(tiny_model(spec), gguf_type("f16"), folder / "a.gguf");
  LoadOptions options;
  options.keep_dtype = true;
  export_gguf(load_checkpoint(folder / "a.gguf", options), gguf_type("f16"), folder / "b.gguf");
  const GgufFile a(folder / "a.gguf"), b(folder / "b.gguf");
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  EXPECT_NE(a.find("rope_freqs.weight"), nullptr);
  for (const GgufTensor& tensor : a.tensors()) {
    const GgufTensor* other = b.find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    const auto left = a.bytes(tensor), right = b.bytes(*other);
    EXPECT_TRUE(std::equal(left.begin(), left.end(), right.begin(), right.end())) << tensor.name;
  }
}

TEST(ExportGguf, DamagedWeightsAreNamedAndLeaveNoFile) {
  TestFolder folder;
  for (const auto& [value, word] : {std::pair(NAN, "nan"), std::pair(INFINITY, "inf")}) {
    Checkpoint model = tiny_model();
    model.weights.at("model.layers.1.self_attn.q_proj.weight")[17][5] = value;
    const std::string line = gguf_error(model, gguf_type("q8_0"), folder / "m.gguf");
    EXPECT_NE(line.find("model.layers.1.self_attn.q_proj.weight"), std::string::npos) << line;
    EXPECT_NE(line.find(std::string(word) + " at [17, 5]"), std::string::npos) << line;
    EXPECT_TRUE(fs::is_empty(folder.path()));
  }
  Checkpoint model = tiny_model();
  model.weights.at("lm_head.weight")[3][4] = 1e6f;
  const std::string line = gguf_error(model, gguf_type("f16"), folder / "m.gguf");
  EXPECT_NE(line.find("lm_head.weight"), std::string::npos) << line;
}

TEST(ExportGguf, ATokenizerThatDeviatesIsWrittenOnlyWhenAsked) {
  TestFolder folder;
  Checkpoint model = tiny_model();
  model.tokenizer = std::make_shared<DeviatingTokenizer>();
  const std::string line = gguf_error(model, gguf_type("f16"), folder / "m.gguf");
  EXPECT_NE(line.find("a unigram vocabulary"), std::string::npos) << line;
  EXPECT_NE(line.find("allow_deviation"), std::string::npos) << line;
  ExportConfig config = gguf_type("f16");
  config.allow_deviation = true;
  EXPECT_NE(export_gguf(model, config, folder / "m.gguf").notes.back().find("a unigram vocabulary"), std::string::npos);
}

/// ByteTokenizer whose normalizer is NFC, as Qwen's.
class ComposingTokenizer : public ByteTokenizer {
 public:
  void to_gguf(GgufMetadata& metadata, int64_t, std::vector<std::string>& deviations) const override {
    metadata.set("tokenizer.ggml.model", std::string("gpt2"));
    deviations.push_back(kUncomposedDeviation);
  }
};

TEST(ExportGguf, ATokenizerThatOnlyComposesIsExportedAndTheNoteSaysSo) {
  TestFolder folder;
  Checkpoint model = tiny_model();
  model.tokenizer = std::make_shared<ComposingTokenizer>();
  const ExportReport report = export_gguf(model, gguf_type("f16"), folder / "m.gguf");
  EXPECT_EQ(report.notes.back(), std::string("tokenizer: ") + kUncomposedDeviation);
}

TEST(ExportGguf, AnotherModelIsToldApart) {
  TestFolder folder;
  const Checkpoint model = tiny_model();
  export_gguf(model, gguf_type("q8_0"), folder / "m.gguf");
  EXPECT_TRUE(compare_with_model(folder / "m.gguf", model).empty());
  Checkpoint other = tiny_model();
  other.weights.at("model.layers.1.self_attn.k_proj.weight")[9][11] += 1;
  const std::vector<Fault> faults = compare_with_model(folder / "m.gguf", other);
  ASSERT_FALSE(faults.empty());
  EXPECT_EQ(faults.front().what, "tensor model.layers.1.self_attn.k_proj.weight at [9, 0]");  // a scale moved: the block's first number differs
}

TEST(ExportGguf, ImportanceChangesWhatIsWrittenAndIsProvenWithIt) {
  TestFolder folder;
  const Checkpoint model = tiny_model();
  {
    std::ofstream out(folder / "old.imatrix", std::ios::binary);
    const auto number = [&](int32_t value) { out.write(reinterpret_cast<const char*>(&value), 4); };
    const std::string name = "blk.0.attn_q.weight";
    number(1);
    number(static_cast<int32_t>(name.size()));
    out << name;
    number(2);
    number(64);
    for (int i = 0; i < 64; ++i) {
      const float sum = i < 32 ? 0.02f : 200.0f * static_cast<float>(1 + i % 7);
      out.write(reinterpret_cast<const char*>(&sum), 4);
    }
  }
  ExportConfig config = gguf_type("q4_0");
  config.pure = true;
  export_gguf(model, config, folder / "plain.gguf");
  config.imatrix = (folder / "old.imatrix").string();
  const ExportReport report = export_gguf(model, config, folder / "weighted.gguf");
  EXPECT_NE(report.notes.front().find("not in the importance matrix"), std::string::npos);
  const GgufFile plain(folder / "plain.gguf"), weighted(folder / "weighted.gguf");
  const auto same = [&](const char* name) {
    const auto a = plain.bytes(*plain.find(name)), b = weighted.bytes(*weighted.find(name));
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  EXPECT_FALSE(same("blk.0.attn_q.weight"));
  EXPECT_TRUE(same("blk.0.attn_k.weight"));
  EXPECT_TRUE(compare_with_model(folder / "weighted.gguf", model).empty());
  fs::resize_file(folder / "old.imatrix", 100);
  EXPECT_NE(gguf_error(model, config, folder / "x.gguf").find("old.imatrix"), std::string::npos);
}

}  // namespace
}  // namespace attar
