#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "base/json.h"
#include "blocks/ggml_blocks.h"
#include "formats/safetensors.h"
#include "stored/stored_model.h"

namespace attar {
namespace {

/// A tensor of the file and the parameters whose rows it is made of.
struct SavedTensor {
  std::string name;
  std::vector<std::string> parts;
  std::vector<int64_t> shape;
};

const char* torch_name(GgmlType type) {
  if (type == GgmlType::f32) return "float32";
  return type == GgmlType::f16 ? "float16" : "bfloat16";
}

Dtype dtype_of(GgmlType type) {
  if (type == GgmlType::f32) return Dtype::f32;
  return type == GgmlType::f16 ? Dtype::f16 : Dtype::bf16;
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

int64_t saved_bytes(const SavedTensor& tensor, GgmlType type) {
  int64_t count = 1;
  for (int64_t size : tensor.shape) count *= size;
  return count * dtype_bytes(dtype_of(type));
}

/// A weight's rows as `type`, a few at a time.
void write_weight(SafetensorsWriter& writer, const std::string& name, const StoredTensor& weight, GgmlType type) {
  std::vector<uint8_t> room;
  std::vector<float> values;
  for_row_pieces(weight.rows(), weight.columns(), [&](int64_t begin, int64_t count) {
    const size_t numbers = static_cast<size_t>(count * weight.columns());
    if (weight.type == type && !weight.plus_one)
      return writer.write(weight.rows_together(begin, count, room), static_cast<size_t>(count * weight.row_bytes()));
    values.resize(numbers);
    weight.values(begin, count, values.data());
    if (type == GgmlType::f32) return writer.write(values.data(), numbers * sizeof(float));
    room.resize(numbers * 2);
    try {
      quantize_rows(type, values.data(), room.data(), count, weight.columns());
    } catch (const Error& error) {
      std::vector<Fault> faults = error.faults();
      for (Fault& fault : faults) fault.what = str("tensor ", name, ", rows from ", begin, ": ", fault.what);
      throw Error(std::move(faults));
    }
    writer.write(room.data(), room.size());
  });
}

void write_shard(const fs::path& file, const StoredModel& model, const std::vector<SavedTensor>& tensors, GgmlType type) {
  std::vector<SafetensorsWriter::Declared> declared;
  for (const SavedTensor& tensor : tensors) declared.push_back({tensor.name, dtype_of(type), tensor.shape});
  SafetensorsWriter writer(file, std::move(declared));
  for (const SavedTensor& tensor : tensors)
    for (const std::string& part : tensor.parts) write_weight(writer, part, model.weight(part), type);
  writer.commit();
}

void write_weights(const StoredModel& model, const fs::path& folder, GgmlType dtype, int64_t shard_bytes) {
  std::vector<std::vector<SavedTensor>> shards(1);
  int64_t filled = 0, total = 0;
  for (SavedTensor& tensor : saved_tensors(model.spec)) {
    const int64_t bytes = saved_bytes(tensor, dtype);
    if (filled && filled + bytes > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    total += bytes;
    shards.back().push_back(std::move(tensor));
  }
  if (shards.size() == 1) return write_shard(folder / "model.safetensors", model, shards[0], dtype);
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    write_shard(folder / name, model, shards[i], dtype);
    for (const SavedTensor& tensor : shards[i]) map[tensor.name] = name;
  }
  write_json(folder / "model.safetensors.index.json", Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}});
}

void write_codes(const StoredModel& model, const fs::path& file) {
  std::vector<SafetensorsWriter::Declared> declared;
  std::map<std::string, std::string> types;
  for (const auto& [name, code] : model.codes) {
    const bool rows = code.type == GgmlType::i8;
    declared.push_back({name, rows ? Dtype::i8 : Dtype::u8, {code.rows(), code.row_bytes()}});
    if (rows) declared.push_back({name + ".scales", Dtype::f32, {code.rows()}});
    types[name] = ggml_type_info(code.type).name;
  }
  SafetensorsWriter writer(file, std::move(declared), types);
  std::vector<uint8_t> room;
  for (const auto& [name, code] : model.codes) {
    writer.write(code.rows_together(0, code.rows(), room), static_cast<size_t>(code.rows() * code.row_bytes()));
    if (code.type == GgmlType::i8) writer.write(code.scales.data(), code.scales.size());
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

std::string card(const StoredModel& model) {
  std::string text;
  if (!model.license.empty() || !model.base_model.empty()) {
    text += "---\n";
    if (!model.license.empty()) text += "license: " + card_value(model.license) + "\n";
    if (!model.base_model.empty()) text += "base_model: " + card_value(model.base_model) + "\n";
    text += "library_name: transformers\npipeline_tag: text-generation\n---\n";
  }
  const ModelSpec& spec = model.spec;
  text += str("# ", spec.family, ", ", human_count(static_cast<double>(parameter_count(spec))), " parameters\n\n");
  text += str(spec.layers.size(), " layers, width ", spec.hidden, ", vocabulary ", spec.vocab, ", context ", spec.context,
              ". Hugging Face layout: `AutoModelForCausalLM.from_pretrained` loads this folder.\n");
  if (!model.codes.empty())
    text += str("\nQuantized: `codes.safetensors` holds the blocks of ", model.codes.size(),
                " tensors as they stand in an exported file; `model.safetensors` holds their values.\n");
  return text;
}

}  // namespace

void write_hf(const StoredModel& model, const fs::path& folder, GgmlType dtype, int64_t shard_bytes) {
  if (dtype != GgmlType::f32 && dtype != GgmlType::f16 && dtype != GgmlType::bf16)
    fail("type to save", "f32, f16 or bf16", ggml_type_info(dtype).name);
  if (!model.codes.empty() && dtype != GgmlType::f32)
    fail("type to save", "f32: a quantized model's values would be rounded again", ggml_type_info(dtype).name);
  const ModelSpec& spec = model.spec;
  write_json(folder / "config.json", config_from_spec(spec, torch_name(dtype)));
  Json generation = Json::object();
  if (spec.bos >= 0) generation["bos_token_id"] = spec.bos;
  if (spec.eos.size() == 1) generation["eos_token_id"] = spec.eos[0];
  if (spec.eos.size() > 1) generation["eos_token_id"] = spec.eos;
  if (spec.pad >= 0) generation["pad_token_id"] = spec.pad;
  write_json(folder / "generation_config.json", generation);
  write_weights(model, folder, dtype, shard_bytes);
  if (!model.codes.empty()) write_codes(model, folder / "codes.safetensors");
  if (model.tokenizer)
    for (const TokenizerFile& file : model.tokenizer->files()) {
      make_folder((folder / file.name).parent_path());
      write_file(folder / file.name, file.content);
    }
  write_file(folder / "README.md", card(model));
}

}  // namespace attar
