#include "quant/type_plan.h"

#include <algorithm>

#include "base/check.h"
#include "spec/gguf_names.h"
#include "spec/presets.h"

namespace attar {
namespace {

bool is_embedding(const std::string& name) { return name == "model.embed_tokens.weight" || name == "lm_head.weight"; }

/// llama-quantize's names for mixes end in a size.
bool is_mix(const std::string& scheme) { return scheme.ends_with("_k_s") || scheme.ends_with("_k_m") || scheme.ends_with("_k_l"); }

std::vector<std::string> scheme_names() {
  std::vector<std::string> names = {"int4", "int8"};
  for (const std::string& name : gguf_type_names())
    if (name != "f32" && name != "f16" && name != "bf16") names.push_back(name);
  return names;
}

std::map<std::string, std::vector<int64_t>> shapes_of(const ModelSpec& spec) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& p : parameters_of(spec)) shapes[p.name] = p.shape;
  return shapes;
}

}  // namespace

std::vector<TypeGroup> type_groups(const ModelSpec& spec, bool embeddings) {
  const auto shapes = shapes_of(spec);
  std::vector<TypeGroup> groups;
  for (const GgufMapping& mapping : gguf_mapping(spec)) {
    if (!mapping.matrix || (!embeddings && is_embedding(mapping.sources.front()))) continue;
    TypeGroup group{mapping.gguf, mapping.sources};
    for (const std::string& source : mapping.sources) group.rows += shapes.at(source).at(0), group.columns = shapes.at(source).at(1);
    groups.push_back(std::move(group));
  }
  return groups;
}

TypePlan plan_types(const ModelSpec& spec, const std::string& scheme, bool mix, bool embeddings, bool has_imatrix) {
  const std::vector<std::string> known = scheme_names();
  check(std::find(known.begin(), known.end(), scheme) != known.end(), "scheme", "a quantized ggml type, one of llama-quantize's mixes, int4 or int8",
        scheme, nearest_hint(scheme, known));
  std::vector<PresetInput> inputs;
  const std::vector<TypeGroup> groups = type_groups(spec, true);
  for (const TypeGroup& group : groups) inputs.push_back({group.gguf, group.rows, group.columns, true});
  if (scheme == "int8") {
    TypePlan rows;
    for (const TypeGroup& group : groups)
      if (embeddings || !is_embedding(group.weights.front()))
        for (const std::string& name : group.weights) rows.types[name] = GgmlType::i8;
    return rows;
  }
  const std::string preset = scheme == "int4" ? "q4_0" : scheme;
  const PresetChoice choice = preset_types(preset, spec, inputs, !mix && !is_mix(scheme), {}, has_imatrix);
  TypePlan plan;
  std::map<std::string, std::vector<std::string>> noted;
  bool any = false;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (!embeddings && is_embedding(groups[i].weights.front())) continue;
    for (const std::string& name : groups[i].weights) plan.types[name] = choice.tensors[i].type;
    any = any || ggml_type_info(choice.tensors[i].type).quantized;
    if (!choice.tensors[i].note.empty()) noted[choice.tensors[i].note].push_back(groups[i].gguf);
  }
  check(any, "scheme " + scheme, "a weight whose rows its blocks, or those of its fallback, divide", "none in this model");
  for (const auto& [note, names] : noted)
    plan.notes.push_back((names.size() == 1 ? names[0] : str(names.size(), " tensors (", names[0], ", ...)")) + ": " + note);
  return plan;
}

GgmlType type_for_width(GgmlType wanted, int64_t columns) {
  ModelSpec any;
  any.layers.resize(1);
  return preset_types(ggml_type_info(wanted).name, any, {{"blk.0.ffn_up.weight", 1, columns, true}}, true, {}, false).tensors[0].type;
}

int64_t tensor_bytes(const ModelSpec& spec, const std::map<std::string, GgmlType>& types) {
  const auto shapes = shapes_of(spec);
  int64_t bytes = 0;
  for (const GgufMapping& mapping : gguf_mapping(spec))
    for (const std::string& source : mapping.sources) {
      const std::vector<int64_t>& shape = shapes.at(source);
      const auto type = types.find(source);
      const int64_t rows = shape.size() == 2 ? shape[0] : 1;
      bytes += rows * ggml_row_bytes(type == types.end() ? GgmlType::f32 : type->second, shape.back());
      if (type != types.end() && type->second == GgmlType::i8) bytes += rows * static_cast<int64_t>(sizeof(float));
    }
  for (const ComputedTensor& tensor : gguf_rope_tensors(spec)) bytes += static_cast<int64_t>(tensor.values.size() * sizeof(float));
  return bytes;
}

}  // namespace attar
