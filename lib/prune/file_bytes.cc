#include "prune/file_bytes.h"

#include "base/check.h"
#include "formats/gguf.h"
#include "spec/gguf_names.h"
#include "spec/presets.h"

namespace attar {
namespace {

constexpr int64_t kAlignment = 32;
constexpr int64_t kGeneralBytes = 1024;  ///< name, licence, description and the like

/// Name, number of dimensions, dimensions, type and offset of a tensor.
int64_t table_entry(const std::string& name, int64_t dimensions) { return 8 + static_cast<int64_t>(name.size()) + 4 + 8 * dimensions + 4 + 8; }

/// Tensors of the file with their rows and columns; a vector has one column.
std::vector<PresetInput> file_tensors(const ModelSpec& spec) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& p : parameters_of(spec)) shapes[p.name] = p.shape;
  std::vector<PresetInput> inputs;
  for (const GgufMapping& mapping : gguf_mapping(spec)) {
    PresetInput input{mapping.gguf, 0, 1, mapping.matrix};
    for (const std::string& source : mapping.sources) {
      const std::vector<int64_t>& shape = shapes.at(source);
      input.rows += shape[0], input.columns = shape.size() == 2 ? shape[1] : 1;
    }
    inputs.push_back(std::move(input));
  }
  return inputs;
}

/// Tensors of these types, vectors as F32, with their table and what is computed.
template <class TypeOf>
int64_t bytes_with(const ModelSpec& spec, const std::vector<PresetInput>& inputs, const TypeOf& type_of) {
  int64_t bytes = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const PresetInput& input = inputs[i];
    const bool vector = input.columns == 1;
    bytes += gguf_aligned(vector ? 4 * input.rows : input.rows * ggml_row_bytes(type_of(i), input.columns));
    bytes += table_entry(input.gguf, vector ? 1 : 2);
  }
  for (const ComputedTensor& tensor : gguf_rope_tensors(spec))
    bytes += gguf_aligned(static_cast<int64_t>(tensor.values.size() * sizeof(float))) + table_entry(tensor.name, 1);
  return bytes;
}

}  // namespace

int64_t gguf_aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int64_t gguf_tensor_bytes(const ModelSpec& spec, const std::string& type) {
  const std::vector<PresetInput> inputs = file_tensors(spec);
  const PresetChoice choice = preset_types(type, spec, inputs, false, {}, false);
  return bytes_with(spec, inputs, [&](size_t i) { return choice.tensors[i].type; });
}

int64_t gguf_tensor_bytes(const ModelSpec& spec, const std::map<std::string, GgmlType>& types) {
  const std::vector<GgufMapping> mappings = gguf_mapping(spec);
  return bytes_with(spec, file_tensors(spec), [&](size_t i) {
    const auto found = types.find(mappings[i].sources.front());
    return found == types.end() ? GgmlType::f32 : found->second;
  });
}

int64_t gguf_metadata_bytes(const ModelSpec& spec, const Tokenizer* tokenizer, const fs::path& scratch) {
  GgufMetadata metadata;
  std::vector<std::string> ignored;
  gguf_architecture(spec, metadata, ignored);
  if (tokenizer) tokenizer->to_gguf(metadata, spec.vocab, ignored);
  GgufWriter(scratch, metadata, {}).commit();
  const auto bytes = static_cast<int64_t>(fs::file_size(scratch));
  fs::remove(scratch);
  return bytes + kGeneralBytes;
}

}  // namespace attar
