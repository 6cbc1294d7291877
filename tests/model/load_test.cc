#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/json.h"
#include "formats/gguf.h"
#include "formats/onnx.h"
#include "formats/safetensors.h"
#include "blocks/ggml_blocks.h"
#include "model/decoder.h"
#include "spec/gguf_names.h"
#include "data_path.h"

namespace attar {
namespace {

ModelSpec saved_spec(const std::string& family) {
  ModelSpec spec;
  spec.family = family;
  spec.vocab = 64;
  spec.hidden = 32;
  spec.head_size = 8;
  spec.context = 64;
  spec.bos = 1;
  spec.eos = {2};
  for (int i = 0; i < 2; ++i) spec.layers.push_back({64, 4, 2, 0, false});
  spec.fused_projections = family == "phi3";
  if (family == "qwen2") spec.qkv_bias = true;
  if (family == "qwen3") spec.qk_norm = true;
  if (family == "gemma") {
    spec.norm_offset = spec.tied = true;
    spec.activation = "gelu_tanh";
    spec.embedding_scale = std::sqrt(32.0);
    spec.norm_eps = 1e-6;
  }
  return spec;
}

Checkpoint random_checkpoint(const std::string& family) {
  Checkpoint checkpoint;
  checkpoint.spec = saved_spec(family);
  checkpoint.weights = Decoder::random(checkpoint.spec, 5).weights();
  int64_t count = 0;
  for (auto& [name, tensor] : checkpoint.weights)
    if (tensor.dim() == 1) tensor = at::arange(tensor.numel(), at::kFloat).mul_(0.125 + 0.0625 * static_cast<double>(count++ % 5)).cos_();
  return checkpoint;
}

void expect_same_weights(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.count(name)) << name;
    EXPECT_TRUE(at::equal(tensor, b.at(name))) << name;
  }
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(Checkpoint, SavedAndLoadedIsTheSame) {
  for (const char* family : {"llama", "qwen2", "qwen3", "phi3", "gemma"}) {
    const TestFolder folder;
    Checkpoint checkpoint = random_checkpoint(family);
    checkpoint.license = "apache-2.0";
    checkpoint.base_model = "someone/a model: the first";
    save_checkpoint(checkpoint, folder.path());
    const Checkpoint again = load_checkpoint(folder.path());
    EXPECT_TRUE(again.spec == checkpoint.spec) << family;
    EXPECT_TRUE(load_spec(folder.path()) == checkpoint.spec) << family;
    expect_same_weights(checkpoint.weights, again.weights);
    EXPECT_EQ(again.license, checkpoint.license);
    EXPECT_EQ(again.base_model, checkpoint.base_model);
    EXPECT_EQ(checkpoint_fingerprint(again), checkpoint_fingerprint(checkpoint));
    Checkpoint other = again;
    other.weights["model.norm.weight"] = other.weights["model.norm.weight"] + 1e-3;
    EXPECT_NE(checkpoint_fingerprint(other), checkpoint_fingerprint(checkpoint));
  }
}

TEST(Checkpoint, EqualSavesAreEqualBytes) {
  const TestFolder folder;
  const Checkpoint checkpoint = random_checkpoint("llama");
  for (const char* name : {"a", "b"}) {
    make_folder(folder / name);
    save_checkpoint(checkpoint, folder / name, at::kBFloat16);
  }
  for (const auto& entry : fs::directory_iterator(folder / "a"))
    EXPECT_EQ(read_file(entry.path()), read_file(folder / "b" / entry.path().filename())) << entry.path();
}

TEST(Checkpoint, ShardsHalvesAndStoredTypes) {
  const TestFolder folder;
  const Checkpoint checkpoint = random_checkpoint("phi3");
  save_checkpoint(checkpoint, folder.path(), at::kBFloat16, 6000);
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  EXPECT_TRUE(fs::exists(folder / "model.safetensors.index.json"));
  LoadOptions as_stored;
  as_stored.keep_dtype = true;
  const Checkpoint stored = load_checkpoint(folder.path(), as_stored);
  const Checkpoint wide = load_checkpoint(folder.path());
  for (const auto& [name, tensor] : checkpoint.weights) {
    EXPECT_EQ(stored.weights.at(name).scalar_type(), at::kBFloat16);
    EXPECT_EQ(wide.weights.at(name).scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(stored.weights.at(name), tensor.to(at::kBFloat16))) << name;
    EXPECT_TRUE(at::equal(wide.weights.at(name), tensor.to(at::kBFloat16).to(at::kFloat))) << name;
  }
}

TEST(Checkpoint, CodesAreKept) {
  const TestFolder folder;
  Checkpoint checkpoint = random_checkpoint("llama");
  for (const char* name : {"model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"}) {
    at::Tensor& weight = checkpoint.weights[name];
    QuantizedTensor code{GgmlType::q4_0, weight.sizes().vec(),
                         at::empty({weight.size(0), ggml_row_bytes(GgmlType::q4_0, weight.size(1))}, at::kByte)};
    quantize_rows(GgmlType::q4_0, weight.data_ptr<float>(), code.blocks.data_ptr<uint8_t>(), weight.size(0), weight.size(1));
    dequantize_rows(GgmlType::q4_0, code.blocks.data_ptr<uint8_t>(), weight.data_ptr<float>(), weight.size(0), weight.size(1));
    checkpoint.codes[name] = code;
  }
  save_checkpoint(checkpoint, folder.path());
  const Checkpoint again = load_checkpoint(folder.path());
  expect_same_weights(checkpoint.weights, again.weights);
  ASSERT_EQ(again.codes.size(), 2u);
  for (const auto& [name, code] : checkpoint.codes) {
    EXPECT_EQ(again.codes.at(name).type, GgmlType::q4_0);
    EXPECT_EQ(again.codes.at(name).shape, code.shape);
    EXPECT_TRUE(at::equal(again.codes.at(name).blocks, code.blocks)) << name;
  }
  EXPECT_THROW(save_checkpoint(checkpoint, folder.path(), at::kHalf), Error);
}

/// Rows of a checkpoint as a GGUF tensor holds them.
at::Tensor gguf_values(const Checkpoint& checkpoint, const GgufMapping& mapping) {
  std::vector<at::Tensor> parts;
  for (const std::string& name : mapping.sources) parts.push_back(checkpoint.weights.at(name));
  at::Tensor values = at::cat(parts);
  if (mapping.add_one) values = values + 1;
  if (mapping.permute_heads) {
    const int64_t rows = values.size(0), head = rows / mapping.permute_heads;
    std::vector<at::Tensor> moved;
    for (int64_t row = 0; row < rows; ++row) moved.push_back(values[row / head * head + permuted_row(row % head, head)]);
    values = at::stack(moved);
  }
  return values.contiguous();
}

void write_gguf(const Checkpoint& checkpoint, const fs::path& path, GgmlType matrices) {
  GgufMetadata metadata;
  std::vector<std::string> warnings;
  gguf_architecture(checkpoint.spec, metadata, warnings);
  std::vector<GgufWriter::Declared> declared;
  for (const GgufMapping& mapping : gguf_mapping(checkpoint.spec))
    declared.push_back({mapping.gguf, mapping.matrix ? matrices : GgmlType::f32, gguf_values(checkpoint, mapping).sizes().vec()});
  GgufWriter writer(path, metadata, declared);
  for (const GgufMapping& mapping : gguf_mapping(checkpoint.spec)) {
    const at::Tensor values = gguf_values(checkpoint, mapping);
    if (!mapping.matrix || matrices == GgmlType::f32) {
      writer.write(values.data_ptr(), values.nbytes());
    } else {
      std::vector<uint8_t> bytes(static_cast<size_t>(values.size(0) * ggml_row_bytes(matrices, values.size(1))));
      quantize_rows(matrices, values.data_ptr<float>(), bytes.data(), values.size(0), values.size(1));
      writer.write(bytes.data(), bytes.size());
    }
  }
  writer.commit();
}

TEST(GgufSource, F32GivesTheSameWeights) {
  for (const char* family : {"llama", "qwen2", "qwen3", "phi3"}) {
    const TestFolder folder;
    const Checkpoint checkpoint = random_checkpoint(family);
    write_gguf(checkpoint, folder / "model.gguf", GgmlType::f32);
    LoadOptions options;
    options.tokenizer = false;
    const Checkpoint again = load_checkpoint(folder / "model.gguf", options);
    expect_same_weights(checkpoint.weights, again.weights);
    EXPECT_TRUE(again.codes.empty());
    // A stage's folder with one such file stands for it.
    expect_same_weights(checkpoint.weights, load_checkpoint(folder.path(), options).weights);
    options.keep_dtype = true;
    expect_same_weights(checkpoint.weights, load_checkpoint(folder / "model.gguf", options).weights);
  }
}

TEST(GgufSource, GemmaNormsLoseTheirOne) {
  const TestFolder folder;
  const Checkpoint checkpoint = random_checkpoint("gemma");
  write_gguf(checkpoint, folder / "model.gguf", GgmlType::f32);
  LoadOptions options;
  options.tokenizer = false;
  const Checkpoint again = load_checkpoint(folder / "model.gguf", options);
  for (const auto& [name, tensor] : checkpoint.weights)
    EXPECT_LT((again.weights.at(name) - tensor).abs().max().item<double>(), 1.3e-7) << name;
}

TEST(GgufSource, CodesBelongToTheirWeights) {
  for (const char* family : {"llama", "phi3"}) {
    const TestFolder folder;
    const Checkpoint checkpoint = random_checkpoint(family);
    write_gguf(checkpoint, folder / "model.gguf", GgmlType::q8_0);
    LoadOptions options;
    options.tokenizer = false;
    const Checkpoint again = load_checkpoint(folder / "model.gguf", options);
    EXPECT_EQ(again.codes.size(), 2u * 7 + 2);
    for (const auto& [name, code] : again.codes) {
      const at::Tensor& weight = again.weights.at(name);
      const at::Tensor blocks = code.blocks.contiguous();
      at::Tensor values = at::empty(code.shape, at::kFloat);
      dequantize_rows(code.type, blocks.data_ptr<uint8_t>(), values.data_ptr<float>(), values.size(0), values.size(1));
      EXPECT_TRUE(at::equal(values, weight)) << name;
      const at::Tensor& original = checkpoint.weights.at(name);
      EXPECT_LT((weight - original).abs().max().item<double>(), original.abs().max().item<double>() / 120) << name;
    }
  }
}

/// An initializer of given bytes.
void add_initializer(OnnxWriter& writer, const std::string& name, OnnxType type, const std::vector<int64_t>& shape, const at::Tensor& values) {
  const at::Tensor dense = values.contiguous();
  writer.initializer(name, type, shape, dense.nbytes(), [dense](const auto& sink) { sink(dense.const_data_ptr(), dense.nbytes()); });
}

TEST(OnnxSource, EveryFormOfAWeightIsRead) {
  const TestFolder folder;
  Checkpoint checkpoint = random_checkpoint("llama");
  checkpoint.license = "mit";
  OnnxWriter writer(21, 10, "test");
  writer.metadata("attar.spec", config_from_spec(checkpoint.spec, "float32").dump());
  writer.metadata("license", checkpoint.license);
  std::map<std::string, GgmlType> grids;
  for (auto& [name, weight] : checkpoint.weights) {
    const auto shape = weight.sizes().vec();
    if (name.ends_with("q_proj.weight")) {
      weight = weight.to(at::kHalf).to(at::kFloat);
      add_initializer(writer, name, OnnxType::f16, shape, weight.to(at::kHalf));
    } else if (name.ends_with("k_proj.weight")) {
      const at::Tensor scale = weight.abs().amax(1) / 127.0f, integers = at::round(weight / scale.unsqueeze(1)).to(at::kChar);
      add_initializer(writer, name, OnnxType::i8, {shape[1], shape[0]}, integers.t());
      add_initializer(writer, name + "_scale", OnnxType::f32, {shape[0]}, scale);
      weight = integers.to(at::kFloat) * scale.unsqueeze(1);
      grids[name] = GgmlType::i8;
    } else if (name.ends_with("up_proj.weight") || name.ends_with("down_proj.weight")) {
      // 4 bits: code e is the low half of byte e / 2 for even e; 8 bits: a byte a code; value = (code - zero point) * scale.
      const bool four = name.ends_with("up_proj.weight");
      const int64_t blocks = shape[1] / 32;
      const at::Tensor codes = at::arange(weight.numel(), at::kLong).mul_(7).remainder_(four ? 16 : 256).reshape({shape[0], blocks, 32});
      const at::Tensor scales = at::arange(shape[0] * blocks, at::kFloat).add_(1).div_(1024).reshape({shape[0], blocks});
      const at::Tensor packed = four ? codes.slice(2, 0, 32, 2) + codes.slice(2, 1, 32, 2) * 16 : codes;
      add_initializer(writer, name, OnnxType::u8, packed.sizes().vec(), packed.to(at::kByte));
      add_initializer(writer, name + "_scale", OnnxType::f32, {shape[0], blocks}, scales);
      weight = ((codes - (four ? 8 : 128)).to(at::kFloat) * scales.unsqueeze(2)).reshape(shape);
      grids[name] = four ? GgmlType::q4_0 : GgmlType::q8_0;
    } else {
      add_initializer(writer, name, OnnxType::f32, shape, weight);
    }
  }
  writer.write(folder.path(), 1 << 20);
  const Checkpoint again = load_checkpoint(folder.path());
  EXPECT_TRUE(again.spec == checkpoint.spec);
  EXPECT_EQ(again.license, "mit");
  expect_same_weights(checkpoint.weights, again.weights);
  ASSERT_EQ(again.codes.size(), grids.size());
  for (const auto& [name, code] : again.codes) {
    EXPECT_EQ(code.type, grids.at(name)) << name;
    if (code.type == GgmlType::i8) {
      EXPECT_TRUE(at::equal(code.blocks.view(at::kChar).reshape(code.shape).to(at::kFloat) * code.scales.unsqueeze(1), again.weights.at(name)))
          << name;
      continue;
    }
    at::Tensor values = at::empty(code.shape, at::kFloat);
    dequantize_rows(code.type, code.blocks.const_data_ptr<uint8_t>(), values.data_ptr<float>(), values.size(0), values.size(1));
    EXPECT_TRUE(at::equal(values, again.weights.at(name))) << name;
  }
  EXPECT_TRUE(load_spec(folder / "model.onnx") == checkpoint.spec);
}

TEST(Checkpoint, RefusalsNameTheFault) {
  const TestFolder folder;
  EXPECT_NE(refusal([&] { load_checkpoint("owner/name"); }).find("hf download owner/name"), std::string::npos);
  EXPECT_NE(refusal([&] { load_checkpoint(folder / "none"); }).find("none"), std::string::npos);
  EXPECT_NE(refusal([&] { load_checkpoint(folder.path()); }).find("config.json"), std::string::npos);
  Checkpoint checkpoint = random_checkpoint("llama");
  save_checkpoint(checkpoint, folder.path());
  const auto rewrite = [&](const StateDict& weights) {
    std::vector<SafetensorsWriter::Declared> declared;
    for (const auto& [name, tensor] : weights)
      declared.push_back({name, tensor.scalar_type() == at::kByte ? Dtype::u8 : Dtype::f32, tensor.sizes().vec()});
    SafetensorsWriter writer(folder / "model.safetensors", declared);
    for (const auto& [name, tensor] : weights) writer.write(tensor.data_ptr(), tensor.nbytes());
    writer.commit();
  };
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  StateDict weights = checkpoint.weights;
  weights.erase(name);
  rewrite(weights);
  EXPECT_NE(refusal([&] { load_checkpoint(folder.path()); }).find(name), std::string::npos);
  weights[name] = at::zeros({16, 31});
  rewrite(weights);
  EXPECT_NE(refusal([&] { load_checkpoint(folder.path()); }).find("[16, 31]"), std::string::npos);
  weights[name] = at::zeros({16, 32}, at::kByte);
  rewrite(weights);
  EXPECT_NE(refusal([&] { load_checkpoint(folder.path()); }).find("U8"), std::string::npos);
  weights[name] = checkpoint.weights.at(name);
  weights["model.layers.7.mlp.up_proj.weight"] = at::zeros({1});
  rewrite(weights);
  EXPECT_NE(refusal([&] { load_checkpoint(folder.path()); }).find("model.layers.7.mlp.up_proj.weight"), std::string::npos);
  // Rotary buffers of old checkpoints are no fault.
  weights.erase("model.layers.7.mlp.up_proj.weight");
  weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = at::zeros({4});
  rewrite(weights);
  EXPECT_EQ(load_checkpoint(folder.path()).weights.size(), checkpoint.weights.size());
  write_file(folder / "codes.safetensors", "nonsense");
  EXPECT_NE(refusal([&] { load_checkpoint(folder.path()); }).find("codes.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace attar
