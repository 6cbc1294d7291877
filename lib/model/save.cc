#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/load_parts.h"

namespace attar {
namespace {

/// A tensor of the file and the parameters whose rows it is made of.
struct SavedTensor {
  std::string name;
  std::vector<std::string> parts;
  std::vector<int64_t> shape;
};

const char* torch_name(at::ScalarType type) {
  if (type == at::kFloat) return "float32";
  return type == at::kHalf ? "float16" : "bfloat16";
}

/// Parameters in the order of the file; Phi-3's projections joined again.
std::vector<SavedTensor> saved_tensors(const ModelSpec& spec) {
  std::vector<SavedTensor> all;
  for (const ParameterInfo& parameter : parameters_of(spec)) {
    std::string name = parameter.name;
    if (spec.fused_projections && is_linear_weight(name)) {
      for (const auto& [part, fused] : {std::pair("q_proj.weight", "qkv_proj.weight"), std::pair("k_proj.weight", "qkv_proj.weight"),
                                        std::pair("v_proj.weight", "qkv_proj.weight"), std::pair("gate_proj.weight", "gate_up_proj.weight"),
                                        std::pair("up_proj.weight", "gate_up_proj.weight")})
        if (name.ends_with(std::string(".") + part)) {
          name = name.substr(0, name.size() - std::string(part).size()) + fused;
          break;
        }
      if (!all.empty() && all.back().name == name) {
        all.back().parts.push_back(parameter.name);
        all.back().shape[0] += parameter.shape[0];
        continue;
      }
    }
    all.push_back({name, {parameter.name}, parameter.shape});
  }
  return all;
}

int64_t saved_bytes(const SavedTensor& tensor, at::ScalarType dtype) {
  int64_t count = 1;
  for (int64_t size : tensor.shape) count *= size;
  return count * static_cast<int64_t>(c10::elementSize(dtype));
}

void write_shard(const fs::path& file, const Checkpoint& checkpoint, const std::vector<SavedTensor>& tensors, at::ScalarType dtype) {
  std::vector<SafetensorsWriter::Declared> declared;
  for (const SavedTensor& tensor : tensors) declared.push_back({tensor.name, stored_type(dtype), tensor.shape});
  SafetensorsWriter writer(file, std::move(declared));
  for (const SavedTensor& tensor : tensors)
    for (const std::string& part : tensor.parts) {
      const at::Tensor values = checkpoint.weights.at(part).detach().to(at::kCPU, dtype).contiguous();
      writer.write(values.const_data_ptr(), values.nbytes());
    }
  writer.commit();
}

void write_weights(const Checkpoint& checkpoint, const fs::path& folder, at::ScalarType dtype, int64_t shard_bytes) {
  std::vector<std::vector<SavedTensor>> shards(1);
  int64_t filled = 0, total = 0;
  for (SavedTensor& tensor : saved_tensors(checkpoint.spec)) {
    const int64_t bytes = saved_bytes(tensor, dtype);
    if (filled && filled + bytes > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    total += bytes;
    shards.back().push_back(std::move(tensor));
  }
  if (shards.size() == 1) return write_shard(folder / "model.safetensors", checkpoint, shards[0], dtype);
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    write_shard(folder / name, checkpoint, shards[i], dtype);
    for (const SavedTensor& tensor : shards[i]) map[tensor.name] = name;
  }
  write_json(folder / "model.safetensors.index.json", Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}});
}

void write_codes(const Checkpoint& checkpoint, const fs::path& file) {
  std::vector<SafetensorsWriter::Declared> declared;
  std::map<std::string, std::string> types;
  for (const auto& [name, code] : checkpoint.codes) {
    declared.push_back({name, code.type == GgmlType::i8 ? Dtype::i8 : Dtype::u8, code.blocks.sizes().vec()});
    if (code.type == GgmlType::i8) declared.push_back({name + ".scales", Dtype::f32, code.scales.sizes().vec()});
    types[name] = ggml_type_info(code.type).name;
  }
  SafetensorsWriter writer(file, std::move(declared), types);
  for (const auto& [name, code] : checkpoint.codes) {
    const at::Tensor blocks = code.blocks.to(at::kCPU).contiguous();
    writer.write(blocks.const_data_ptr(), blocks.nbytes());
    if (code.type != GgmlType::i8) continue;
    const at::Tensor scales = code.scales.to(at::kCPU).contiguous();
    writer.write(scales.const_data_ptr(), scales.nbytes());
  }
  writer.commit();
}

/// Text for the card's front matter: one line, quoted where YAML would read it otherwise.
std::string card_value(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == '"') c = ' ';
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '/';
  });
  return plain ? text : "\"" + text + "\"";
}

std::string card(const Checkpoint& checkpoint) {
  std::string text;
  if (!checkpoint.license.empty() || !checkpoint.base_model.empty()) {
    text += "---\n";
    if (!checkpoint.license.empty()) text += "license: " + card_value(checkpoint.license) + "\n";
    if (!checkpoint.base_model.empty()) text += "base_model: " + card_value(checkpoint.base_model) + "\n";
    text += "library_name: transformers\npipeline_tag: text-generation\n---\n";
  }
  const ModelSpec& spec = checkpoint.spec;
  text += str("# ", spec.family, ", ", human_count(static_cast<double>(parameter_count(spec))), " parameters\n\n");
  text += str(spec.layers.size(), " layers, width ", spec.hidden, ", vocabulary ", spec.vocab, ", context ", spec.context,
              ". Hugging Face layout: `AutoModelForCausalLM.from_pretrained` loads this folder.\n");
  if (!checkpoint.codes.empty())
    text += str("\nQuantized: `codes.safetensors` holds the blocks of ", checkpoint.codes.size(),
                " tensors as they stand in an exported file; `model.safetensors` holds their values.\n");
  return text;
}

}  // namespace

void save_checkpoint(const Checkpoint& checkpoint, const fs::path& folder, at::ScalarType dtype, int64_t shard_bytes) {
  if (dtype != at::kFloat && dtype != at::kHalf && dtype != at::kBFloat16)
    fail("dtype to save", "float32, float16 or bfloat16", c10::toString(dtype));
  if (!checkpoint.codes.empty() && dtype != at::kFloat)
    fail("dtype to save", "float32: a quantized model's values would be rounded again", c10::toString(dtype));
  const ModelSpec& spec = checkpoint.spec;
  write_json(folder / "config.json", config_from_spec(spec, torch_name(dtype)));
  Json generation = Json::object();
  if (spec.bos >= 0) generation["bos_token_id"] = spec.bos;
  if (spec.eos.size() == 1) generation["eos_token_id"] = spec.eos[0];
  if (spec.eos.size() > 1) generation["eos_token_id"] = spec.eos;
  if (spec.pad >= 0) generation["pad_token_id"] = spec.pad;
  write_json(folder / "generation_config.json", generation);
  write_weights(checkpoint, folder, dtype, shard_bytes);
  if (!checkpoint.codes.empty()) write_codes(checkpoint, folder / "codes.safetensors");
  if (checkpoint.tokenizer)
    for (const TokenizerFile& file : checkpoint.tokenizer->files()) {
      make_folder((folder / file.name).parent_path());
      write_file(folder / file.name, file.content);
    }
  write_file(folder / "README.md", card(checkpoint));
}

}  // namespace attar
