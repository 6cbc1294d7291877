#include "stages/joint_types.h"

#include <algorithm>

#include "base/check.h"
#include "prune/file_bytes.h"
#include "quant/budget.h"
#include "quant/knapsack.h"

namespace attar {
namespace {

constexpr const char* kTypesKind = "attar tensor types";
constexpr const char* kTypesFile = "types.json";

}  // namespace

void check_types(const SearchConfig& config) {
  for (const std::string& name : config.types) {
    const GgmlType type = ggml_type_named(name);
    check(ggml_type_info(type).quantized || type == GgmlType::f16 || type == GgmlType::bf16, "search.types", "types to quantize to", name);
  }
}

std::map<std::string, GgmlType> one_type(const ModelSpec& spec, GgmlType type) {
  std::map<std::string, GgmlType> out;
  for (const TypeGroup& group : type_groups(spec, true))
    for (const std::string& name : group.weights) out[name] = type_for_width(type, group.columns);
  return out;
}

void choose_types(Candidate& candidate, const Checkpoint& small, const SearchConfig& config, int64_t metadata, int64_t limit, const TokenRows& rows,
                  const fs::path& partial, ProcessGroup& group) {
  BudgetConfig budget;
  budget.types = config.types;
  const std::vector<MeasuredTensor> measured =
      measure_sensitivity(small, budget_types(budget), true, rows, {}, Rounding::ggml, {.rows = config.type_rows, .partial = partial}, group);
  std::map<std::string, GgmlType> smallest;
  std::vector<std::vector<KnapsackOption>> items;
  int64_t least = 0;
  for (const MeasuredTensor& tensor : measured) {
    items.emplace_back();
    for (const MeasuredType& type : tensor.types) items.back().push_back({gguf_aligned(type.bytes), type.kl});
    const auto best = std::min_element(tensor.types.begin(), tensor.types.end(),
                                       [](const MeasuredType& a, const MeasuredType& b) { return a.bytes < b.bytes; });
    least += gguf_aligned(best->bytes);
    for (const std::string& name : tensor.group.weights) smallest[name] = best->type;
  }
  const int64_t fixed = gguf_tensor_bytes(small.spec, smallest) - least + metadata;
  assert(fixed + least <= limit);  // the widths were found with one of these types throughout
  const KnapsackChoice choice = solve_knapsack(items, limit - fixed);
  candidate.types.clear();
  for (size_t i = 0; i < measured.size(); ++i)
    for (const std::string& name : measured[i].group.weights) candidate.types[name] = measured[i].types[choice.options[i]].type;
  candidate.cost = static_cast<double>(gguf_tensor_bytes(small.spec, candidate.types) + metadata);
}

void save_types(const std::map<std::string, GgmlType>& types, const fs::path& folder) {
  Json list = Json::object();
  for (const auto& [name, type] : types) list[name] = ggml_type_info(type).name;
  write_json(folder / kTypesFile, {{"kind", kTypesKind}, {"version", 1}, {"types", std::move(list)}});
}

std::map<std::string, GgmlType> given_types(const fs::path& given, const ModelSpec& spec) {
  const fs::path file = fs::is_directory(given) ? given / kTypesFile : given;
  const std::string where = "budget.plan " + given.string();
  check(fs::exists(file), where, "a prune stage that searched with search.types", "no types.json there");
  const Json json = read_json(file);
  const bool readable = json.is_object() && json.value("kind", Json()) == kTypesKind && json.value("version", Json()) == 1 && json.contains("types");
  check(readable && json["types"].is_object(), file.string(), std::string(kTypesKind) + ", version 1", "another kind of file");
  std::map<std::string, GgmlType> types;
  for (const TypeGroup& group : type_groups(spec, true))
    for (const std::string& name : group.weights) {
      const Json type = json["types"].contains(name) ? json["types"][name] : Json();
      check(type.is_string(), where + ": " + name, "its type", "none", "the plan is another model's");
      types[name] = ggml_type_named(type.get<std::string>());
      const GgmlTypeInfo& info = ggml_type_info(types[name]);
      check(group.columns % info.block == 0, where + ": " + name, str("rows that ", info.block, " divides, for ", info.name),
            std::to_string(group.columns), "the plan is another model's");
    }
  check(types.size() == json["types"].size(), where, str(types.size(), " weights"), str(json["types"].size()), "the plan is another model's");
  return types;
}

}  // namespace attar
