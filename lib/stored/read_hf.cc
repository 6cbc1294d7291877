#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"
#include "formats/safetensors.h"
#include "stored/readers.h"

namespace attar {
namespace {

constexpr size_t kMostFaults = 20;

/// Where a parameter lies in the folder: rows [begin, begin + count) of the stored tensor, count 0: all of it.
struct StoredPlace {
  std::string stored;
  int64_t begin = 0, count = 0;
};

/// Prefixes under which transformers keeps a language model, longest first, and what stands for them in a plain one.
constexpr std::pair<const char*, const char*> kPrefixes[] = {
    {"model.language_model.lm_head.", "lm_head."}, {"language_model.lm_head.", "lm_head."}, {"language_model.model.", "model."},
    {"model.language_model.", "model."},           {"transformer.model.", "model."}};

/// Buffers that older checkpoints carry and nothing needs; towers of multimodal models.
bool is_left_out(const std::string& name) {
  for (const char* end : {".rotary_emb.inv_freq", ".self_attn.masked_bias", ".self_attn.bias", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"})
    if (name.ends_with(end)) return true;
  for (const char* begin : {"vision_tower.", "model.vision_tower.", "multi_modal_projector.", "model.multi_modal_projector."})
    if (name.starts_with(begin)) return true;
  return false;
}

std::string plain_name(const std::string& stored, bool without_model) {
  for (const auto& [prefix, plain] : kPrefixes)
    if (stored.starts_with(prefix)) return plain + stored.substr(std::strlen(prefix));
  if (without_model && !stored.starts_with("lm_head.")) return "model." + stored;
  return stored;
}

/// The fused tensor that holds a parameter, and its rows there; "" if the parameter is never fused.
StoredPlace fused_place(const ModelSpec& spec, const std::string& name) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string own = layer_name(static_cast<int64_t>(i), "");
    if (!name.starts_with(own)) continue;
    const LayerSpec& layer = spec.layers[i];
    const std::string rest = name.substr(own.size());
    const int64_t q = layer.heads * spec.head_size, kv = layer.kv_heads * spec.head_size, F = layer.ffn;
    if (rest == "self_attn.q_proj.weight") return {own + "self_attn.qkv_proj.weight", 0, q};
    if (rest == "self_attn.k_proj.weight") return {own + "self_attn.qkv_proj.weight", q, kv};
    if (rest == "self_attn.v_proj.weight") return {own + "self_attn.qkv_proj.weight", q + kv, kv};
    if (rest == "mlp.gate_proj.weight") return {own + "mlp.gate_up_proj.weight", 0, F};
    if (rest == "mlp.up_proj.weight") return {own + "mlp.gate_up_proj.weight", F, F};
    return {};
  }
  return {};
}

/// Rows that the stored fused tensor must have in all.
int64_t fused_rows(const ModelSpec& spec, const std::string& name, const StoredPlace& place) {
  const size_t layer = static_cast<size_t>(std::stoll(name.substr(std::strlen("model.layers."))));
  const LayerSpec& facts = spec.layers[layer];
  return place.stored.ends_with("qkv_proj.weight") ? (facts.heads + 2 * facts.kv_heads) * spec.head_size : 2 * facts.ffn;
}

GgmlType weight_type(Dtype dtype, const std::string& name) {
  switch (dtype) {
    case Dtype::f64: return GgmlType::f64;
    case Dtype::f32: return GgmlType::f32;
    case Dtype::f16: return GgmlType::f16;
    case Dtype::bf16: return GgmlType::bf16;
    default: fail("tensor " + name, "F32, F16, BF16 or F64", dtype_name(dtype), "attar reads weights that are not quantized by other tools");
  }
}

}  // namespace

std::map<std::string, StoredTensor> hf_weights(const fs::path& folder, const ModelSpec& spec) {
  const auto files = std::make_shared<const SafetensorsFolder>(folder);
  const bool without_model = files->tensors().count("embed_tokens.weight") > 0;
  std::map<std::string, std::string> stored_of;
  std::vector<Fault> faults;
  for (const auto& [stored, entry] : files->tensors()) {
    if (is_left_out(stored)) continue;
    const std::string plain = plain_name(stored, without_model);
    if (spec.tied && plain == "lm_head.weight") continue;
    if (const auto [place, fresh] = stored_of.emplace(plain, stored); !fresh)
      faults.push_back({"tensor " + stored, "one tensor for " + plain, "also " + place->second, ""});
  }

  std::map<std::string, StoredTensor> weights;
  std::set<std::string> used;
  for (const ParameterInfo& parameter : parameters_of(spec)) {
    if (faults.size() >= kMostFaults) break;
    StoredPlace place{parameter.name};
    auto found = stored_of.find(parameter.name);
    std::vector<int64_t> wanted = parameter.shape;
    if (found == stored_of.end()) {
      if (const StoredPlace fused = fused_place(spec, parameter.name); !fused.stored.empty() && stored_of.count(fused.stored)) {
        place = fused;
        found = stored_of.find(fused.stored);
        wanted[0] = fused_rows(spec, parameter.name, fused);
      }
    }
    if (found == stored_of.end()) {
      faults.push_back({folder.string() + ": tensor " + parameter.name, "to be there", "nothing", ""});
      continue;
    }
    used.insert(found->first);
    const TensorEntry& entry = files->tensors().at(found->second);
    if (entry.shape != wanted) {
      faults.push_back({folder.string() + ": tensor " + found->second, "shape " + shape_text(wanted) + " (config.json)",
                        shape_text(entry.shape), ""});
      continue;
    }
    StoredTensor weight;
    weight.type = weight_type(entry.dtype, found->second);
    weight.shape = parameter.shape;
    weight.bytes = files->bytes(found->second);
    if (place.count) {
      const size_t row = weight.bytes.size() / static_cast<size_t>(std::max<int64_t>(1, wanted[0]));
      weight.bytes = weight.bytes.subspan(static_cast<size_t>(place.begin) * row, static_cast<size_t>(place.count) * row);
    }
    weight.owner = files;
    weight.release = [kept = files.get(), stored = found->second] { kept->release(stored); };
    weights[parameter.name] = std::move(weight);
  }
  for (const auto& [plain, stored] : stored_of)
    if (!used.count(plain) && faults.size() < kMostFaults)
      faults.push_back({folder.string() + ": tensor " + stored, "only tensors that " + spec.family + " has", "one that nothing takes", ""});
  if (!faults.empty()) throw Error(std::move(faults));
  return weights;
}

std::map<std::string, StoredTensor> hf_codes(const fs::path& folder, const ModelSpec& spec) {
  std::map<std::string, StoredTensor> codes;
  const fs::path place = folder / "codes.safetensors";
  if (!fs::exists(place)) return codes;
  const auto file = std::make_shared<const SafetensorsFile>(place);
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& parameter : parameters_of(spec)) shapes[parameter.name] = parameter.shape;
  const auto taken = [&](const std::string& name, Dtype dtype, const std::vector<int64_t>& wanted) {
    const auto found = file->tensors().find(name);
    const bool fits = found != file->tensors().end() && found->second.dtype == dtype && found->second.shape == wanted;
    if (!fits)
      fail(place.string() + ": tensor " + name, str(dtype_name(dtype), " ", shape_text(wanted)),
           found == file->tensors().end() ? "nothing" : str(dtype_name(found->second.dtype), " ", shape_text(found->second.shape)));
    return file->bytes(name);
  };
  for (const auto& [name, entry] : file->tensors()) {
    if (name.ends_with(".scales") && file->tensors().count(name.substr(0, name.size() - 7))) continue;  // read with the integers they belong to
    const std::string what = place.string() + ": tensor " + name;
    const auto shape = shapes.find(name);
    if (shape == shapes.end() || shape->second.size() != 2) fail(what, "a matrix of the model", "none of that name");
    const auto type_name = file->metadata().find(name);
    if (type_name == file->metadata().end()) fail(what, "its ggml type in the metadata", "nothing");
    StoredTensor code;
    code.type = ggml_type_named(type_name->second);
    code.shape = shape->second;
    const std::vector<int64_t> wanted{code.rows(), code.row_bytes()};
    const bool rows = code.type == GgmlType::i8;
    code.bytes = taken(name, rows ? Dtype::i8 : Dtype::u8, wanted);
    if (rows) code.scales = taken(name + ".scales", Dtype::f32, {wanted[0]});
    code.owner = file;
    codes[name] = std::move(code);
  }
  return codes;
}

}  // namespace attar
