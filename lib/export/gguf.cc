#include <map>

#include "base/check.h"
#include "export/export.h"
#include "export/gguf_rows.h"
#include "export/pieces.h"
#include "export/prove.h"
#include "formats/gguf.h"
#include "blocks/ggml_blocks.h"
#include "spec/presets.h"
#include "tokenizer/gguf_vocab.h"

namespace attar {
namespace {

/// A tensor of the file to be.
struct PlannedTensor {
  GgufRows rows;
  GgmlType type;
};

std::vector<std::pair<std::string, GgmlType>> parse_overrides(const std::vector<std::string>& words) {
  std::vector<std::pair<std::string, GgmlType>> overrides;
  for (const std::string& word : words) {
    const size_t at = word.rfind('=');
    if (at == std::string::npos || at == 0) fail("tensor_type", "REGEX=TYPE", word);
    overrides.emplace_back(word.substr(0, at), ggml_type_named(word.substr(at + 1)));
  }
  return overrides;
}

/// Notes of equal content as one line each: "3 tensors (blk.0.ffn_down.weight, ...): why".
void add_grouped(const std::vector<std::pair<std::string, std::string>>& noted, std::vector<std::string>& notes) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::string>> groups;
  for (const auto& [name, why] : noted) {
    if (why.empty()) continue;
    if (!groups.count(why)) order.push_back(why);
    groups[why].push_back(name);
  }
  for (const std::string& why : order) {
    const std::vector<std::string>& names = groups[why];
    notes.push_back(names.size() == 1 ? names[0] + ": " + why : str(names.size(), " tensors (", names[0], ", ...): ", why));
  }
}

/// The type that most elements with codes have.
GgmlType commonest_code(const std::vector<PlannedTensor>& tensors) {
  std::map<GgmlType, int64_t> counts;
  for (const PlannedTensor& tensor : tensors)
    if (const auto type = tensor.rows.code_type()) counts[*type] += tensor.rows.rows() * tensor.rows.columns();
  GgmlType best = GgmlType::f32;
  int64_t most = 0;
  for (const auto& [type, count] : counts)
    if (count > most) {
      best = type;
      most = count;
    }
  return best;
}

/// Chooses every tensor's type; returns general.file_type.
uint32_t choose_types(std::vector<PlannedTensor>& tensors, const std::vector<GgufMapping>& mappings, const StoredModel& model,
                      const ExportConfig& config, bool has_imatrix, std::vector<std::string>& notes) {
  const auto overrides = parse_overrides(config.tensor_type);
  std::string preset = config.type;
  const auto of_rows = [](const auto& code) { return code.second.type == GgmlType::i8; };
  const bool rows_alone = !model.codes.empty() && std::all_of(model.codes.begin(), model.codes.end(), of_rows);
  if (preset.empty() && rows_alone) {
    preset = "f32";
    notes.push_back(str(model.codes.size(), " matrices of ONNX's int8 codes: GGUF has no type for this grid, their exact values are written as f32"));
  }
  if (preset.empty() && !model.codes.empty()) {
    if (!overrides.empty()) fail("tensor_type", "a type too", "none", "without a type the model's own codes are written as they are");
    const GgmlType common = commonest_code(tensors);
    if (common == GgmlType::f32) fail("type", "one, because codes of one tensor are of several types", "none");
    for (PlannedTensor& tensor : tensors) tensor.type = tensor.rows.code_type().value_or(GgmlType::f32);
    return gguf_file_type(common);
  }
  if (preset.empty()) {
    preset = "f16";
    notes.push_back("no type asked and the model has no codes: matrices are written as f16");
  }
  std::vector<PresetInput> inputs;
  for (size_t i = 0; i < tensors.size(); ++i)
    inputs.push_back({mappings[i].gguf, tensors[i].rows.rows(), tensors[i].rows.columns(), mappings[i].matrix});
  const PresetChoice choice = preset_types(preset, model.spec, inputs, config.pure, overrides, has_imatrix);
  std::vector<std::pair<std::string, std::string>> noted;
  for (size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].type = choice.tensors[i].type;
    noted.emplace_back(choice.tensors[i].gguf, choice.tensors[i].note);
    const auto code = tensors[i].rows.code_type();
    if (code && *code != tensors[i].type && ggml_type_info(tensors[i].type).quantized)
      noted.emplace_back(choice.tensors[i].gguf, str("its ", ggml_type_info(*code).name, " values are rounded again to ",
          ggml_type_info(tensors[i].type).name));
  }
  add_grouped(noted, notes);
  return choice.file_type;
}

void add_general(const StoredModel& model, GgufMetadata& metadata) {
  const std::string& base = model.base_model;
  const std::string name = base.empty() ? model.spec.family : base.substr(base.rfind('/') == std::string::npos ? 0 : base.rfind('/') + 1);
  metadata.set("general.type", std::string("model"));
  metadata.set("general.name", name);
  metadata.set("general.size_label", human_count(static_cast<double>(parameter_count(model.spec))));
  metadata.set("general.description", std::string("Written and read back by attar ") + ATTAR_VERSION);
  if (!model.license.empty()) metadata.set("general.license", model.license);
  if (!base.empty()) {
    metadata.set("general.base_model.count", uint32_t{1});
    metadata.set("general.base_model.0.name", base);
  }
}

void add_tokenizer(const StoredModel& model, const ExportConfig& config, GgufMetadata& metadata, std::vector<std::string>& notes) {
  if (!model.tokenizer) {
    // llama.cpp's word for a file that is fed ids and gives logits.
    metadata.set("tokenizer.ggml.model", std::string("none"));
    notes.push_back("the model has no tokenizer: llama.cpp loads this file for token ids only");
    return;
  }
  std::vector<std::string> deviations;
  model.tokenizer->to_gguf(metadata, model.spec.vocab, deviations);
  std::string all;
  for (const std::string& deviation : deviations)
    if (deviation != kUncomposedDeviation) all += (all.empty() ? "" : "; ") + deviation;
  if (!all.empty() && !config.allow_deviation)
    fail("tokenizer", "one whose ids GGUF readers reproduce", all, "allow_deviation: true exports it all the same");
  for (const std::string& deviation : deviations) notes.push_back("tokenizer: " + deviation);
}

GgufMetadata make_metadata(const StoredModel& model, const ExportConfig& config, const Imatrix& imatrix, uint32_t file_type, bool quantized,
                           std::vector<std::string>& notes) {
  GgufMetadata facts, metadata;
  gguf_architecture(model.spec, facts, notes);
  metadata.set("general.architecture", facts.text("general.architecture"));
  add_general(model, metadata);
  for (const auto& [key, value] : facts.entries()) metadata.set(key, value);
  add_tokenizer(model, config, metadata, notes);
  if (quantized) metadata.set("general.quantization_version", uint32_t{2});
  metadata.set("general.file_type", file_type);
  if (!imatrix.empty()) {
    metadata.set("quantize.imatrix.file", imatrix.file);
    if (!imatrix.dataset.empty()) metadata.set("quantize.imatrix.dataset", fs::path(imatrix.dataset).filename().string());
    metadata.set("quantize.imatrix.entries_count", static_cast<uint32_t>(imatrix.means.size()));
    if (imatrix.chunks > 0) metadata.set("quantize.imatrix.chunks_count", static_cast<uint32_t>(imatrix.chunks));
  }
  return metadata;
}

/// The importances of a tensor's columns, or null where it has none; Error where the matrix is of another model.
const std::vector<float>* importance_of(const Imatrix& imatrix, const PlannedTensor& tensor) {
  if (imatrix.empty() || !uses_importance(tensor.type)) return nullptr;
  const auto found = imatrix.means.find(tensor.rows.name());
  if (found == imatrix.means.end()) return nullptr;
  if (static_cast<int64_t>(found->second.size()) != tensor.rows.columns())
    fail("imatrix " + imatrix.file + ": " + tensor.rows.name(), str(tensor.rows.columns(), " values"), std::to_string(found->second.size()),
         "it was collected on another model");
  return &found->second;
}

/// Writes the tensors, of which the file has `before` others in front, on all threads, each a few rows at a time.
void write_tensors(GgufWriter& writer, size_t before, const std::vector<PlannedTensor>& tensors,
                   const std::vector<const std::vector<float>*>& importances) {
  struct Piece {
    size_t tensor;
    int64_t begin, count;
  };
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t rows = tensors[i].rows.rows(), step = tensors[i].rows.rows_at_a_time();
    for (int64_t begin = 0; begin < rows; begin += step) pieces.push_back({i, begin, std::min(step, rows - begin)});
  }
  for_all_pieces(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto& [at, begin, count] = pieces[static_cast<size_t>(i)];
    const auto& [rows, type] = tensors[at];
    const std::vector<uint8_t> bytes = rows.bytes(type, begin, count, importances[at] ? importances[at]->data() : nullptr);
    writer.write_at(before + at, static_cast<uint64_t>(begin * ggml_row_bytes(type, rows.columns())), bytes.data(), bytes.size());
  });
}

}  // namespace

ExportReport export_gguf(const StoredModel& model, const ExportConfig& config, const fs::path& file) {
  ExportReport report;
  const Imatrix imatrix = config.imatrix.empty() ? Imatrix{} : read_imatrix(config.imatrix);
  const std::vector<GgufMapping> mappings = gguf_mapping(model.spec);
  std::vector<PlannedTensor> tensors;
  for (const GgufMapping& mapping : mappings) tensors.push_back({GgufRows(model, mapping), GgmlType::f32});
  const uint32_t file_type = choose_types(tensors, mappings, model, config, !imatrix.empty(), report.notes);
  bool quantized = false;
  std::vector<GgufWriter::Declared> declared;
  const std::vector<ComputedTensor> computed = gguf_rope_tensors(model.spec);
  for (const ComputedTensor& tensor : computed) declared.push_back({tensor.name, GgmlType::f32, {static_cast<int64_t>(tensor.values.size())}});
  std::vector<const std::vector<float>*> importances;
  std::vector<std::pair<std::string, std::string>> without;
  for (const PlannedTensor& tensor : tensors) {
    quantized |= ggml_type_info(tensor.type).quantized;
    declared.push_back({tensor.rows.name(), tensor.type, tensor.rows.shape()});
    importances.push_back(importance_of(imatrix, tensor));
    if (!imatrix.empty() && !importances.back() && uses_importance(tensor.type)) without.emplace_back(tensor.rows.name(),
        "not in the importance matrix");
  }
  add_grouped(without, report.notes);
  const GgufMetadata metadata = make_metadata(model, config, imatrix, file_type, quantized, report.notes);

  // Under another name until it is proven: what stands at `file` is right or absent.
  if (file.has_parent_path()) make_folder(file.parent_path());
  const fs::path unproven = file.parent_path() / ("." + file.filename().string() + ".unproven");
  std::error_code ignored;
  try {
    GgufWriter writer(unproven, metadata, declared);
    writer.any_order();
    for (size_t i = 0; i < computed.size(); ++i) writer.write_at(i, 0, computed[i].values.data(), computed[i].values.size() * sizeof(float));
    write_tensors(writer, computed.size(), tensors, importances);
    writer.commit();
    const Proof proof = prove_gguf(unproven, model, imatrix);
    demand_proven(proof, unproven);
    report.elements_proven = proof.elements;
    fs::rename(unproven, file);
  } catch (const fs::filesystem_error& error) {
    fs::remove(unproven, ignored);
    fail("file " + file.string(), "a place that can be written to", error.code().message());
  } catch (...) {
    fs::remove(unproven, ignored);
    throw;
  }
  report.files = {file};
  for (const GgufWriter::Declared& tensor : declared) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    const GgmlTypeInfo& info = ggml_type_info(tensor.type);
    report.tensors.push_back({{"name", tensor.name}, {"type", info.name}, {"shape", tensor.shape}, {"bytes", elements / info.block * info.bytes}});
  }
  return report;
}

}  // namespace attar
