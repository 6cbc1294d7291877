#include <cmath>
#include <limits>
#include <set>

#include "base/check.h"
#include "formats/gguf.h"
#include "spec/gguf_names.h"
#include "spec/golden_cases.h"

namespace attar {
namespace {

struct WrittenGguf {
  GgufMetadata metadata;
  std::vector<std::string> warnings;
  ModelSpec back;
};

/// Writes a spec's metadata and zero tensors of its shapes, and reads the spec back.
WrittenGguf through_gguf(const ModelSpec& spec, const std::filesystem::path& path) {
  WrittenGguf out;
  gguf_architecture(spec, out.metadata, out.warnings);
  if (spec.bos >= 0) out.metadata.set("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(spec.bos));
  if (spec.pad >= 0) out.metadata.set("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(spec.pad));
  const char* ends[] = {"eos", "eot", "eom"};
  for (size_t i = 0; i < spec.eos.size(); ++i)
    out.metadata.set(std::string("tokenizer.ggml.") + ends[i] + "_token_id", static_cast<uint32_t>(spec.eos[i]));
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& p : parameters_of(spec)) shapes[p.name] = p.shape;
  std::vector<GgufWriter::Declared> tensors;
  for (const GgufMapping& m : gguf_mapping(spec)) {
    std::vector<int64_t> shape = shapes.at(m.sources.front());
    for (size_t i = 1; i < m.sources.size(); ++i) shape.front() += shapes.at(m.sources[i]).front();
    tensors.push_back({m.gguf, GgmlType::f32, shape});
  }
  const std::vector<ComputedTensor> ropes = gguf_rope_tensors(spec);
  for (const ComputedTensor& rope : ropes) tensors.push_back({rope.name, GgmlType::f32, {static_cast<int64_t>(rope.values.size())}});
  GgufWriter writer(path, out.metadata, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    int64_t count = 1;
    for (int64_t size : tensors[i].shape) count *= size;
    std::vector<float> values(static_cast<size_t>(count));
    if (i + ropes.size() >= tensors.size()) values = ropes[i + ropes.size() - tensors.size()].values;
    writer.write(values.data(), values.size() * sizeof(float));
  }
  writer.commit();
  out.back = spec_from_gguf(GgufFile(path));
  return out;
}

/// What GGUF does not keep: ids outside the vocabulary, Mistral's name, numbers beyond float32.
ModelSpec as_gguf_tells(ModelSpec spec) {
  auto narrow = [](double& value) { value = static_cast<float>(value); };
  narrow(spec.norm_eps);
  narrow(spec.rope.attention_factor);
  for (double& factor : spec.rope.long_factor) narrow(factor);
  for (double& factor : spec.rope.short_factor) narrow(factor);
  if (spec.family == "mistral") spec.family = "llama";
  std::erase_if(spec.eos, [&](int64_t id) { return id >= spec.vocab; });
  if (std::abs(spec.attention_scale - 1 / std::sqrt(static_cast<double>(spec.head_size))) < 1e-12 && !spec.post_norms) spec.attention_scale = 0;
  return spec;
}

std::string gguf_error(const ModelSpec& spec) {
  GgufMetadata metadata;
  std::vector<std::string> warnings;
  try {
    gguf_architecture(spec, metadata, warnings);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(GgufArchitectures, ComeBackForEveryFamily) {
  TestFolder folder;
  for (const char* name : {"llama", "llama_tied_biased", "llama3", "llama_linear", "llama_yarn", "llama_longrope", "mistral_full", "qwen2",
                           "qwen3", "gemma", "gemma2", "gemma3", "phi3_longrope", "phi3_partial"}) {
    ModelSpec spec = golden_spec(name);
    if (spec.post_norms) spec.attention_scale = 1 / std::sqrt(static_cast<double>(spec.head_size));
    const WrittenGguf written = through_gguf(spec, folder / (std::string(name) + ".gguf"));
    const ModelSpec expected = as_gguf_tells(spec);
    EXPECT_EQ(written.back.norm_eps, spec.norm_eps) << "the shortest decimal";
    EXPECT_TRUE(as_gguf_tells(written.back) == expected)
        << name << "\n" << config_from_spec(written.back, "f").dump() << "\n" << config_from_spec(expected, "f").dump();
  }
}

TEST(GgufArchitectures, WindowPatternsComeBack) {
  TestFolder folder;
  for (const char* name : {"gemma2", "gemma3"}) {
    for (const int64_t period : {0, 1, 2, 3, 6}) {
      ModelSpec spec = golden_spec(name);
      spec.attention_scale = 1 / std::sqrt(static_cast<double>(spec.head_size));
      spec.layers.assign(13, spec.layers.front());
      for (size_t i = 0; i < spec.layers.size(); ++i) {
        const bool slides = period == 0 || (static_cast<int64_t>(i) + 1) % period != 0;
        spec.layers[i].window = slides ? 16 : 0;
        spec.layers[i].local_rope = slides && spec.family == "gemma3_text";
      }
      const WrittenGguf written = through_gguf(spec, folder / "pattern.gguf");
      EXPECT_TRUE(written.back.layers == spec.layers) << name << " " << period;
      EXPECT_GT(written.metadata.integer(name + std::string(".attention.sliding_window")), period == 1 && spec.family != "gemma2" ? -1 : 0);
      spec.layers[4].window = spec.layers[4].window ? 0 : 16;
      spec.layers[4].local_rope = !spec.layers[4].local_rope;
      if (period > 1) {
        EXPECT_NE(gguf_error(spec).find("every n-th"), std::string::npos) << name << " " << period;
      }
    }
  }
}

TEST(GgufArchitectures, PerLayerWidthsAreArrays) {
  TestFolder folder;
  ModelSpec spec = golden_spec("llama");
  spec.layers[1].ffn = 64;
  spec.layers[2].heads = spec.layers[2].kv_heads = 1;
  const WrittenGguf written = through_gguf(spec, folder / "layers.gguf");
  EXPECT_TRUE(written.back == spec);
  EXPECT_EQ(written.metadata.text("general.architecture"), "deci") << "llama.cpp's llama builds every layer like the first";
  EXPECT_EQ(std::get<std::vector<int32_t>>(*written.metadata.find("deci.feed_forward_length")), (std::vector<int32_t>{96, 64, 96}));
  EXPECT_EQ(std::get<std::vector<int32_t>>(*written.metadata.find("deci.attention.head_count_kv")), (std::vector<int32_t>{2, 2, 1}));
}

TEST(GgufArchitectures, OnlyTypesThatTheLoaderTakes) {
  for (const Json& one : golden_cases()) {
    ModelSpec spec = spec_from_config(one.at("new"), "c");
    if (spec.post_norms) spec.attention_scale = 1 / std::sqrt(static_cast<double>(spec.head_size));
    if (!gguf_error(spec).empty()) continue;
    GgufMetadata metadata;
    std::vector<std::string> warnings;
    gguf_architecture(spec, metadata, warnings);
    for (const auto& [key, value] : metadata.entries())
      EXPECT_TRUE(std::holds_alternative<uint32_t>(value) || std::holds_alternative<float>(value) || std::holds_alternative<bool>(value) ||
                  std::holds_alternative<std::string>(value))
          << key;
  }
}

TEST(GgufArchitectures, MistralsWindowCapsTheContext) {
  TestFolder folder;
  const WrittenGguf written = through_gguf(golden_spec("mistral"), folder / "m.gguf");
  ASSERT_EQ(written.warnings.size(), 1u);
  EXPECT_NE(written.warnings[0].find("capped at the window, 16"), std::string::npos);
  EXPECT_EQ(std::get<uint32_t>(*written.metadata.find("llama.context_length")), 16u);
  EXPECT_EQ(written.back.context, 16);
  ModelSpec wide = golden_spec("mistral");
  for (LayerSpec& layer : wide.layers) layer.window = 4096;
  EXPECT_TRUE(through_gguf(wide, folder / "w.gguf").warnings.empty());
}

TEST(GgufArchitectures, WhatLlamaCppInfersOrLacksIsRefused) {
  auto changed = [](const char* name, auto&& change) {
    ModelSpec spec = golden_spec(name);
    change(spec);
    return gguf_error(spec);
  };
  EXPECT_NE(gguf_error(golden_spec("gemma2")).find("attention scale"), std::string::npos);
  EXPECT_NE(gguf_error(golden_spec("qwen3_biased")).find("bias"), std::string::npos);
  EXPECT_NE(gguf_error(golden_spec("llama_yarn_all")).find("truncate"), std::string::npos);
  EXPECT_NE(changed("llama_yarn_all", [](ModelSpec& s) { s.rope.truncate = true; }).find("ramp"), std::string::npos);
  EXPECT_EQ(changed("llama_yarn", [](ModelSpec& s) { s.rope.beta_slow = 1.01; }), "") << "the same whole ends";
  EXPECT_NE(changed("qwen2", [](ModelSpec& s) { s.layers[1].ffn = 32; }).find("every layer"), std::string::npos);
  EXPECT_NE(changed("qwen2", [](ModelSpec& s) { s.rope = golden_spec("llama3").rope; }).find("llama3"), std::string::npos);
  EXPECT_NE(changed("gemma", [](ModelSpec& s) { s.tied = false; }).find("tied"), std::string::npos);
  EXPECT_NE(changed("gemma", [](ModelSpec& s) { s.embedding_scale = 2; }).find("embedding scale"), std::string::npos);
  EXPECT_NE(changed("llama", [](ModelSpec& s) { s.activation = "gelu"; }).find("gelu"), std::string::npos);
  EXPECT_NE(changed("llama", [](ModelSpec& s) { s.family = "mamba"; }).find("mamba"), std::string::npos);
}

TEST(GgufArchitectures, HostileMetadataGivesErrorsOnly) {
  TestFolder folder;
  const std::vector<GgufValue> values = {uint32_t{0}, uint32_t{1}, uint32_t{4294967295u}, int32_t{-1}, uint64_t{1} << 63, 0.0f, -1.0f,
                                         std::numeric_limits<float>::quiet_NaN(), std::string("x"), std::vector<int32_t>{1, -2, 0},
                                         std::vector<float>{}, true};
  int refused = 0;
  for (const char* name : {"llama3", "gemma3", "phi3_longrope"}) {
    ModelSpec spec = golden_spec(name);
    if (spec.post_norms) spec.attention_scale = 1 / std::sqrt(static_cast<double>(spec.head_size));
    GgufMetadata good;
    std::vector<std::string> warnings;
    gguf_architecture(spec, good, warnings);
    std::vector<GgufWriter::Declared> tensors = {{"token_embd.weight", GgmlType::f32, {4, spec.hidden}}};
    for (const ComputedTensor& rope : gguf_rope_tensors(spec))
      tensors.push_back({rope.name, GgmlType::f32, {static_cast<int64_t>(rope.values.size())}});
    const std::vector<float> ones(static_cast<size_t>(4 * spec.hidden), 1.0f);
    // Every key meets every third value; another third with the next key: a file costs a disk's sync.
    size_t turn = 0;
    for (const auto& [key, old] : good.entries()) {
      ++turn;
      for (size_t i = turn % 3; i < values.size(); i += 3) {
        GgufMetadata metadata = good;
        metadata.set(key, values[i]);
        const std::filesystem::path path = folder / "hostile.gguf";
        GgufWriter writer(path, metadata, tensors);
        for (const GgufWriter::Declared& tensor : tensors) {
          const int64_t columns = tensor.shape.size() > 1 ? tensor.shape.back() : 1;
          writer.write(ones.data(), sizeof(float) * static_cast<size_t>(tensor.shape.front() * columns));
        }
        writer.commit();
        try {
          const ModelSpec back = spec_from_gguf(GgufFile(path));
          if (back.rope_dims(back.rope) < 10000) rope_table(back.rope, back.rope_dims(back.rope), 100, back.context);
        } catch (const Error&) {
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 50);
}

TEST(GgufNames, MappingCoversEveryParameterOnce) {
  for (const Json& one : golden_cases()) {
    const ModelSpec spec = spec_from_config(one.at("new"), "c");
    std::set<std::string> expected, mapped, files;
    for (const ParameterInfo& p : parameters_of(spec)) expected.insert(p.name);
    for (const GgufMapping& m : gguf_mapping(spec)) {
      EXPECT_TRUE(files.insert(m.gguf).second) << m.gguf;
      for (const std::string& source : m.sources) EXPECT_TRUE(mapped.insert(source).second) << source;
      EXPECT_EQ(m.matrix, m.gguf.ends_with(".weight") && m.gguf.find("norm") == std::string::npos) << m.gguf;
      EXPECT_EQ(m.add_one, spec.norm_offset && m.gguf.find("norm") != std::string::npos) << m.gguf;
      const bool rotated = m.gguf.find("attn_q.") != std::string::npos || m.gguf.find("attn_k.") != std::string::npos;
      const bool llama = spec.family == "llama" || spec.family == "mistral";
      EXPECT_EQ(m.permute_heads > 0, llama && rotated) << m.gguf;
    }
    EXPECT_EQ(mapped, expected) << one.at("name");
  }
}

TEST(GgufNames, PermutedRowsAlternateBetweenHalves) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < 8; ++row) rows.push_back(permuted_row(row, 8));
  EXPECT_EQ(rows, (std::vector<int64_t>{0, 4, 1, 5, 2, 6, 3, 7}));
}

TEST(GgufNames, Llama3FactorsDivideToTheSameFrequencies) {
  const ModelSpec spec = golden_spec("llama3");
  const std::vector<ComputedTensor> tensors = gguf_rope_tensors(spec);
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].name, "rope_freqs.weight");
  RopeSpec plain;
  plain.theta = spec.rope.theta;
  const RopeTable scaled = rope_table(spec.rope, 16, 1, 256), base = rope_table(plain, 16, 1, 256);
  for (size_t i = 0; i < 8; ++i)
    EXPECT_NEAR(base.inverse_frequency[i] / tensors[0].values[i], scaled.inverse_frequency[i], 1e-6 * scaled.inverse_frequency[i]) << i;
}

TEST(GgufNames, Llama3OfOddSettingsComesBackEquivalent) {
  TestFolder folder;
  ModelSpec spec = golden_spec("llama3");
  spec.head_size = 128;
  spec.rope.factor = 32;
  spec.rope.low_frequency = 2;
  spec.rope.high_frequency = 5;
  spec.rope.original_context = 3000;
  const ModelSpec back = through_gguf(spec, folder / "odd.gguf").back;
  const RopeTable a = rope_table(spec.rope, 128, 1, 256), b = rope_table(back.rope, 128, 1, 256);
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(a.inverse_frequency[i], b.inverse_frequency[i], 2e-5 * a.inverse_frequency[i]) << i;
  EXPECT_NEAR(a.magnitude, b.magnitude, 1e-9);
}

}  // namespace
}  // namespace attar
