#include "spec/presets.h"

#include <cstring>

#include "base/check.h"
#include "spec/golden_cases.h"
#include "spec/gguf_names.h"

namespace attar {
namespace {

struct PresetGolden {
  const char *model, *arch;
  int64_t layers, hidden, ffn, heads, kv_heads;
  bool tied;
  const char* preset;
  int file_type;
  const char* types;
};
const PresetGolden kPresetGoldens[] = {
#include "spec/preset_golden.inc"
};

char letter(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return 'f';
    case GgmlType::f16: return 'h';
    case GgmlType::bf16: return 'b';
    case GgmlType::q8_0: return '8';
    case GgmlType::q4_0: return '4';
    case GgmlType::q4_1: return 'v';
    case GgmlType::q5_0: return '5';
    case GgmlType::q5_1: return 'w';
    case GgmlType::q2_k: return 'B';
    case GgmlType::q3_k: return 'C';
    case GgmlType::q4_k: return 'D';
    case GgmlType::q5_k: return 'E';
    case GgmlType::q6_k: return 'F';
    case GgmlType::iq4_nl: return 'n';
    case GgmlType::tq1_0: return 't';
    case GgmlType::tq2_0: return 'u';
    case GgmlType::mxfp4: return 'm';
    default: return '?';
  }
}

ModelSpec preset_model(const std::string& arch, int64_t layers, int64_t hidden, int64_t ffn, int64_t heads, int64_t kv_heads, bool tied) {
  ModelSpec spec;
  spec.family = arch == "gemma3" ? "gemma3_text" : arch;
  spec.vocab = 64;
  spec.hidden = hidden;
  spec.head_size = hidden / heads;
  spec.context = 512;
  spec.tied = tied;
  spec.post_norms = arch == "gemma2" || arch == "gemma3";
  spec.qk_norm = arch == "qwen3" || arch == "gemma3";
  spec.fused_projections = arch == "phi3";
  LayerSpec layer;
  layer.ffn = ffn;
  layer.heads = heads;
  layer.kv_heads = kv_heads;
  spec.layers.assign(static_cast<size_t>(layers), layer);
  return spec;
}

std::vector<PresetInput> preset_inputs(const ModelSpec& spec) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& p : parameters_of(spec)) shapes[p.name] = p.shape;
  std::vector<PresetInput> inputs;
  for (const GgufMapping& m : gguf_mapping(spec)) {
    int64_t rows = 0;
    for (const std::string& source : m.sources) rows += shapes.at(source).front();
    inputs.push_back({m.gguf, m.matrix ? rows : 1, shapes.at(m.sources.front()).back(), m.matrix});
  }
  return inputs;
}

std::string letters(const PresetChoice& choice, const std::vector<PresetInput>& inputs) {
  std::string out;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].matrix) out += letter(choice.tensors[i].type);
    else EXPECT_EQ(choice.tensors[i].type, GgmlType::f32) << inputs[i].gguf;
  }
  return out;
}

TEST(Presets, TypesAreLlamaQuantizes) {
  for (const PresetGolden& golden : kPresetGoldens) {
    const ModelSpec spec = preset_model(golden.arch, golden.layers, golden.hidden, golden.ffn, golden.heads, golden.kv_heads, golden.tied);
    const std::vector<PresetInput> inputs = preset_inputs(spec);
    const PresetChoice choice = preset_types(golden.preset, spec, inputs, false, {}, false);
    EXPECT_EQ(letters(choice, inputs), golden.types) << golden.model << " " << golden.preset;
    EXPECT_EQ(static_cast<int>(choice.file_type), golden.file_type) << golden.model << " " << golden.preset;
  }
}

TEST(Presets, BareNamesMeanTheirMiddle) {
  const ModelSpec spec = preset_model("llama", 10, 256, 512, 4, 4, true);
  const std::vector<PresetInput> inputs = preset_inputs(spec);
  for (const char* bare : {"q3_k", "q4_k", "q5_k"}) {
    const PresetChoice a = preset_types(bare, spec, inputs, false, {}, false);
    const PresetChoice b = preset_types(std::string(bare) + "_m", spec, inputs, false, {}, false);
    EXPECT_EQ(letters(a, inputs), letters(b, inputs));
    EXPECT_EQ(a.file_type, b.file_type);
  }
}

TEST(Presets, PureIsOneTypeAndFallsBackByWidthOnly) {
  const ModelSpec spec = preset_model("llama", 2, 256, 352, 4, 4, false);
  const std::vector<PresetInput> inputs = preset_inputs(spec);
  const PresetChoice choice = preset_types("q4_k", spec, inputs, true, {}, false);
  EXPECT_EQ(choice.file_type, 14u);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].matrix) continue;
    const bool down = inputs[i].gguf.ends_with("ffn_down.weight");
    EXPECT_EQ(choice.tensors[i].type, down ? GgmlType::q5_0 : GgmlType::q4_k) << inputs[i].gguf;
    EXPECT_EQ(choice.tensors[i].note, down ? "row of 352 is no multiple of 256: q5_0" : "");
  }
  for (const std::string& name : gguf_type_names()) EXPECT_NO_THROW(preset_types(name, spec, inputs, true, {}, false)) << name;
}

TEST(Presets, OverridesFirstMatchWins) {
  const ModelSpec spec = preset_model("llama", 2, 256, 512, 4, 4, false);
  const std::vector<PresetInput> inputs = preset_inputs(spec);
  const PresetChoice choice = preset_types("q4_k_m", spec, inputs, false, {{"blk\\.0\\..*", GgmlType::q8_0}, {"attn_q", GgmlType::f16}}, false);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const GgmlType type = choice.tensors[i].type;
    if (!inputs[i].matrix) EXPECT_EQ(type, GgmlType::f32);
    else if (inputs[i].gguf.starts_with("blk.0.")) EXPECT_EQ(type, GgmlType::q8_0);
    else if (inputs[i].gguf == "blk.1.attn_q.weight") EXPECT_EQ(type, GgmlType::f16);
    else EXPECT_NE(type, GgmlType::q8_0) << inputs[i].gguf;
  }
  EXPECT_THROW(preset_types("q4_k_m", spec, inputs, false, {{"(", GgmlType::q8_0}}, false), Error);
}

TEST(Presets, UnknownNameIsRefusedWithTheNearest) {
  try {
    preset_types("q4_k_x", preset_model("llama", 1, 256, 256, 4, 4, true), {}, false, {}, false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("q4_k"), std::string::npos) << error.what();
  }
}

TEST(Presets, Mxfp4KeepsEmbeddingsBetter) {
  const ModelSpec spec = preset_model("llama", 2, 256, 512, 4, 4, false);
  const std::vector<PresetInput> inputs = preset_inputs(spec);
  EXPECT_EQ(letters(preset_types("mxfp4", spec, inputs, false, {}, false), inputs), "8mmmmmmmmmmmmmm8");
  EXPECT_EQ(letters(preset_types("mxfp4", spec, inputs, true, {}, false), inputs), "mmmmmmmmmmmmmmmm");
}

}  // namespace
}  // namespace attar
