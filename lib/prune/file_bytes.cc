#include "prune/file_bytes.h"

#include "base/check.h"
#include "formats/gguf.h"
#include "spec/gguf_names.h"
#include "spec/presets.h"

namespace attar {
namespace {

constexpr int64_t kAlignment = 32;
constexpr int64_t kGeneralBytes = 1024;  ///< name, licence, description and the like

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
/// Name, number of dimensions, dimensions, type and offset of a tensor.
int64_t table_entry(const std::string& name, int64_t dimensions) { return 8 + static_cast<int64_t>(name.size()) + 4 + 8 * dimensions + 4 + 8; }

}  // namespace

int64_t gguf_tensor_bytes(const ModelSpec& spec, const std::string& type) {
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
  const PresetChoice choice = preset_types(type, spec, inputs, false, {}, false);
  int64_t bytes = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const PresetInput& input = inputs[i];
    const bool vector = input.columns == 1;
    bytes += aligned(vector ? 4 * input.rows : input.rows * ggml_row_bytes(choice.tensors[i].type, input.columns));
    bytes += table_entry(input.gguf, vector ? 1 : 2);
  }
  for (const ComputedTensor& tensor : gguf_rope_tensors(spec))
    bytes += aligned(static_cast<int64_t>(tensor.values.size() * sizeof(float))) + table_entry(tensor.name, 1);
  return bytes;
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
