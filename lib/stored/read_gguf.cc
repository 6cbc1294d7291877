#include <set>

#include "base/check.h"
#include "formats/gguf.h"
#include "spec/gguf_names.h"
#include "stored/readers.h"

namespace attar {
namespace {

bool holds_weights(GgmlType type) {
  return type == GgmlType::f32 || type == GgmlType::f16 || type == GgmlType::bf16 || type == GgmlType::f64 || ggml_type_info(type).quantized;
}

/// Adds what `mapping` says of one tensor of the file to the model.
void take_gguf_tensor(StoredModel& model, const std::shared_ptr<const GgufFile>& file, const GgufTensor& tensor, const GgufMapping& mapping,
                      const std::map<std::string, std::vector<int64_t>>& shapes) {
  if (!holds_weights(tensor.type)) fail("tensor " + tensor.name, "numbers that can be weights", ggml_type_info(tensor.type).name);
  std::span<const uint8_t> rest = file->bytes(tensor);
  for (const std::string& name : mapping.sources) {
    StoredTensor part;
    part.type = tensor.type;
    part.shape = shapes.at(name);
    part.bytes = rest.first(static_cast<size_t>(part.rows() * part.row_bytes()));
    rest = rest.subspan(part.bytes.size());
    part.permuted_heads = mapping.permute_heads;
    part.plus_one = mapping.add_one;
    part.owner = file;
    part.release = [kept = file.get(), &tensor] { kept->release(tensor); };
    if (ggml_type_info(tensor.type).quantized) model.codes[name] = part;
    model.weights[name] = std::move(part);
  }
}

}  // namespace

StoredModel stored_gguf(const fs::path& path) {
  const auto file = std::make_shared<const GgufFile>(path);
  StoredModel model;
  model.spec = spec_from_gguf(*file);
  model.license = file->metadata().text("general.license", "");
  model.base_model = file->metadata().text("general.base_model.0.name", "");
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& parameter : parameters_of(model.spec)) shapes[parameter.name] = parameter.shape;
  std::set<std::string> used{"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
  std::vector<Fault> faults;
  for (const GgufMapping& mapping : gguf_mapping(model.spec)) {
    const std::string what = path.string() + ": tensor " + mapping.gguf;
    used.insert(mapping.gguf);
    const GgufTensor* tensor = file->find(mapping.gguf);
    if (!tensor) {
      faults.push_back({what, "to be there", "nothing", ""});
      continue;
    }
    std::vector<int64_t> wanted = shapes.at(mapping.sources.front());
    for (size_t i = 1; i < mapping.sources.size(); ++i) wanted[0] += shapes.at(mapping.sources[i])[0];
    if (tensor->shape != wanted) {
      faults.push_back({what, "shape " + shape_text(wanted), shape_text(tensor->shape), ""});
      continue;
    }
    if (faults.empty()) take_gguf_tensor(model, file, *tensor, mapping, shapes);
  }
  for (const GgufTensor& tensor : file->tensors())
    if (!used.count(tensor.name) && faults.size() < 20)
      faults.push_back({path.string() + ": tensor " + tensor.name, "only tensors that " + model.spec.family + " has",
                        "one that nothing takes", ""});
  if (!faults.empty()) throw Error(std::move(faults));
  return model;
}

}  // namespace attar
