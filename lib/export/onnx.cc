#include <algorithm>
#include <limits>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "export/export.h"
#include "export/genai.h"
#include "export/onnx_graph.h"
#include "export/onnx_rows.h"
#include "export/prove.h"

namespace attar {
namespace {

constexpr int64_t kOpset = 21, kIrVersion = 10;
constexpr uint64_t kInlineLimit = 1500000000;
constexpr int64_t kProofElements = int64_t{1} << 22;
constexpr size_t kMostOnnxFaults = 8;

/// Form of every matrix under `type`; notes what is stored otherwise than asked or owned.
std::map<std::string, OnnxForm> choose_forms(const StoredModel& model, const std::string& type, std::vector<std::string>& notes) {
  static const std::map<std::string, OnnxForm> kTypes = {{"fp32", OnnxForm::fp32}, {"f32", OnnxForm::fp32},    {"fp16", OnnxForm::fp16},
                                                         {"f16", OnnxForm::fp16},  {"int8", OnnxForm::int8}, {"int4", OnnxForm::nbits4}};
  if (!type.empty() && !kTypes.count(type)) fail("ONNX type", "fp32, fp16, int8 or int4", type, nearest_hint(type, {"fp32", "fp16", "int8", "int4"}));
  std::map<std::string, OnnxForm> forms;
  std::map<std::string, int64_t> dequantized;
  int64_t narrow = 0;
  for (const ParameterInfo& parameter : parameters_of(model.spec)) {
    if (parameter.shape.size() != 2) continue;
    OnnxForm form = OnnxForm::fp32;
    if (!type.empty()) {
      form = kTypes.at(type);
    } else if (const auto code = model.codes.find(parameter.name); code != model.codes.end()) {
      if (code->second.type == GgmlType::q4_0) form = OnnxForm::nbits4;
      else if (code->second.type == GgmlType::q8_0) form = OnnxForm::nbits8;
      else if (code->second.type == GgmlType::i8) form = OnnxForm::int8;
      else ++dequantized[ggml_type_info(code->second.type).name];
    }
    // Gathering from blocks wants whole ones.
    if ((form == OnnxForm::nbits4 || form == OnnxForm::nbits8) && parameter.name == "model.embed_tokens.weight" && parameter.shape[1] % 32 != 0) {
      form = OnnxForm::fp32;
      ++narrow;
    }
    forms[parameter.name] = form;
  }
  for (const auto& [name, count] : dequantized)
    notes.push_back(str(count, " matrices of ", name, " codes: ONNX has no operator for this grid, their exact values are stored as fp32"));
  if (narrow) notes.push_back("rows of the embedding are no multiple of 32: it is stored as fp32");
  if (std::any_of(forms.begin(), forms.end(), [](const auto& form) { return form.second == OnnxForm::int8; }))
    notes.push_back("ONNX Runtime fuses DequantizeLinear and MatMul and then rounds activations to 8 bits (about 2e-3); "
                    "optimization level basic computes exactly");
  return forms;
}

/// Compares one parameter of the file with what `expected(begin, count)` says.
template <class Expected>
void prove_parameter(const OnnxFile& file, const ParameterInfo& parameter, const Expected& expected, Proof& proof) {
  const int64_t rows = parameter.shape[0], columns = parameter.shape.size() == 2 ? parameter.shape[1] : 1;
  const int64_t step = std::max<int64_t>(1, kProofElements / std::max<int64_t>(columns, 1));
  for (int64_t begin = 0; begin < rows && proof.faults.size() < kMostOnnxFaults; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const std::vector<float> got = onnx_rows(file, parameter.name, parameter.shape, begin, count), wanted = expected(begin, count);
    compare_values(parameter.name, wanted.data(), got.data(), count * columns, columns, begin, proof);
  }
}

/// The form that an initializer has; the model's own rounding of its weights follows from it.
OnnxForm form_in_file(const OnnxFile& file, const ParameterInfo& parameter) {
  const auto found = file.initializers().find(parameter.name);
  if (found == file.initializers().end()) fail("ONNX initializer " + parameter.name, "to be in the file", "nothing");
  switch (found->second.type) {
    case OnnxType::f16: return OnnxForm::fp16;
    case OnnxType::i8: return OnnxForm::int8;
    case OnnxType::u8: return found->second.shape.size() == 3 && found->second.shape[2] == 32 ? OnnxForm::nbits8 : OnnxForm::nbits4;
    default: return OnnxForm::fp32;
  }
}

void write_beside(const StoredModel& model, const fs::path& folder) {
  write_json(folder / "config.json", config_from_spec(model.spec, "float32"));
  Json generation = Json::object();
  const ModelSpec& spec = model.spec;
  if (spec.bos >= 0) generation["bos_token_id"] = spec.bos;
  if (spec.eos.size() == 1) generation["eos_token_id"] = spec.eos[0];
  if (spec.eos.size() > 1) generation["eos_token_id"] = spec.eos;
  if (spec.pad >= 0) generation["pad_token_id"] = spec.pad;
  write_json(folder / "generation_config.json", generation);
  if (model.tokenizer)
    for (const TokenizerFile& file : model.tokenizer->files()) {
      make_folder((folder / file.name).parent_path());
      write_file(folder / file.name, file.content);
    }
}

}  // namespace

Proof prove_onnx(const fs::path& path, const StoredModel& model) {
  const OnnxFile file(path);
  Proof proof;
  std::set<std::string> known;
  for (const ParameterInfo& parameter : parameters_of(model.spec)) {
    if (proof.faults.size() >= kMostOnnxFaults) return proof;
    known.insert(parameter.name);
    const OnnxForm form = form_in_file(file, parameter);
    if (parameter.shape.size() == 2) {
      const OnnxMatrix matrix(model, parameter.name, form);
      prove_parameter(file, parameter, [&](int64_t begin, int64_t count) { return matrix.values(begin, count); }, proof);
    } else {
      prove_parameter(file, parameter, [&](int64_t begin, int64_t count) {
        std::vector<float> values(static_cast<size_t>(count));
        model.weight(parameter.name).values(begin, count, values.data());
        return values;
      }, proof);
    }
  }
  for (const auto& [name, initializer] : file.initializers())
    if ((name.starts_with("model.") || name.starts_with("lm_head.")) && !name.ends_with("_scale") && !known.count(name) &&
        proof.faults.size() < kMostOnnxFaults)
      proof.faults.push_back({"initializer " + name, "no such tensor in this model", "one", ""});
  return proof;
}

ExportReport export_onnx(const StoredModel& model, const ExportConfig& config, const fs::path& folder) {
  ExportReport report;
  if (config.genai) check_genai(model.spec);
  const std::map<std::string, OnnxForm> forms = choose_forms(model, config.type, report.notes);
  OnnxWriter writer(kOpset, kIrVersion, ATTAR_VERSION);
  build_onnx_decoder(writer, model, forms);
  writer.metadata("attar.spec", config_from_spec(model.spec, "float32").dump());
  if (!model.license.empty()) writer.metadata("license", model.license);
  if (!model.base_model.empty()) writer.metadata("base_model", model.base_model);

  // Written and proven apart: what stands in `folder` is right or absent.
  make_folder(folder);
  const fs::path unproven = folder / ".unproven";
  std::error_code ignored;
  fs::remove_all(unproven, ignored);
  make_folder(unproven);
  try {
    writer.write(unproven, kInlineLimit);
    const Proof proof = prove_onnx(unproven / "model.onnx", model);
    demand_proven(proof, unproven);
    report.elements_proven = proof.elements;
    fs::remove(folder / "model.onnx.data", ignored);
    for (const char* name : {"model.onnx.data", "model.onnx"})
      if (fs::exists(unproven / name)) fs::rename(unproven / name, folder / name);
    fs::remove_all(unproven, ignored);
    write_beside(model, folder);
    if (config.genai) write_genai_config(model, folder, report.notes);
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(unproven, ignored);
    fail("folder " + folder.string(), "a place that can be written to", error.code().message());
  } catch (...) {
    fs::remove_all(unproven, ignored);
    throw;
  }
  if (!model.tokenizer) report.notes.push_back("the model has no tokenizer: only model.onnx and its configuration are written");
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) report.files.push_back(entry.path());
  std::sort(report.files.begin(), report.files.end());
  for (const ParameterInfo& parameter : parameters_of(model.spec)) {
    const bool matrix = parameter.shape.size() == 2;
    const OnnxForm form = matrix ? forms.at(parameter.name) : OnnxForm::fp32;
    report.tensors.push_back({{"name", parameter.name}, {"type", onnx_form_name(form)}, {"shape", parameter.shape},
                              {"bytes", matrix ? OnnxMatrix(model, parameter.name, form).bytes() : parameter.shape[0] * 4}});
  }
  return report;
}

}  // namespace attar
