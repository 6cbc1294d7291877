#include <algorithm>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/log.h"
#include "blocks/ggml_blocks.h"
#include "export/export.h"
#include "export/prove.h"

namespace attar {
namespace {

/// What the weights are stored as: all alike, or float32, which holds them all.
GgmlType common_type(const StoredModel& model) {
  if (!model.codes.empty()) return GgmlType::f32;
  std::optional<GgmlType> common;
  for (const auto& [name, tensor] : model.weights) {
    if (common && *common != tensor.type) return GgmlType::f32;
    common = tensor.type;
  }
  return common == GgmlType::f16 || common == GgmlType::bf16 ? *common : GgmlType::f32;
}

GgmlType hf_type(const StoredModel& model, const std::string& type) {
  if (type.empty()) return common_type(model);
  if (type == "fp32" || type == "f32") return GgmlType::f32;
  if (type == "fp16" || type == "f16") return GgmlType::f16;
  if (type == "bf16") return GgmlType::bf16;
  fail("type of a Hugging Face folder", "fp32, fp16 or bf16", type, nearest_hint(type, {"fp32", "fp16", "bf16"}));
}

/// Compares a few rows at a time: a whole tensor as float32 would be the largest thing in memory.
void compare_rows(const std::string& name, const StoredTensor& weight, const StoredTensor& found, Proof& proof) {
  std::vector<float> got, expected;
  std::vector<uint8_t> rounded;
  const int64_t columns = weight.columns();
  const size_t faults = proof.faults.size();
  for_row_pieces(weight.rows(), columns, [&](int64_t begin, int64_t count) {
    if (proof.faults.size() > faults) return;
    got.resize(static_cast<size_t>(count * columns));
    expected.resize(got.size());
    found.values(begin, count, got.data());
    weight.values(begin, count, expected.data());
    if (found.type == GgmlType::f16 || found.type == GgmlType::bf16) {
      rounded.resize(got.size() * 2);
      quantize_rows(found.type, expected.data(), rounded.data(), count, columns);
      dequantize_rows(found.type, rounded.data(), expected.data(), count, columns);
    }
    compare_values(name, expected.data(), got.data(), count * columns, columns, begin, proof);
  });
}

bool same_codes(const StoredTensor& a, const StoredTensor& b) {
  if (a.type != b.type || a.shape != b.shape || a.scales.size() != b.scales.size()) return false;
  std::vector<uint8_t> room_a, room_b;
  return std::memcmp(a.rows_together(0, a.rows(), room_a), b.rows_together(0, b.rows(), room_b), a.bytes.size()) == 0 &&
         (a.scales.empty() || std::memcmp(a.scales.data(), b.scales.data(), a.scales.size()) == 0);
}

}  // namespace

Proof prove_hf(const fs::path& folder, const StoredModel& model) {
  const StoredModel again = read_stored(folder, /*tokenizer=*/false);
  Proof proof;
  for (const auto& [name, weight] : model.weights) {
    const auto found = again.weights.find(name);
    if (found == again.weights.end() || found->second.shape != weight.shape) {
      proof.faults.push_back({"tensor " + name, "shape " + shape_text(weight.shape),
                              found == again.weights.end() ? "no such tensor" : shape_text(found->second.shape), ""});
    } else {
      compare_rows(name, weight, found->second, proof);
    }
    if (proof.faults.size() >= 8) return proof;
  }
  for (const auto& [name, tensor] : again.weights)
    if (!model.weights.count(name) && proof.faults.size() < 8)
      proof.faults.push_back({"tensor " + name, "no such tensor in this model", shape_text(tensor.shape), ""});
  for (const auto& [name, code] : again.codes) {
    const auto own = model.codes.find(name);
    if (own == model.codes.end()) continue;  // codes beside values that were compared
    if (!same_codes(own->second, code))
      proof.faults.push_back({"codes of " + name, std::string("the model's ") + ggml_type_info(own->second.type).name + " codes", "others", ""});
  }
  return proof;
}

ExportReport export_hf(const StoredModel& model, const ExportConfig& config, const fs::path& folder) {
  ExportReport report;
  const GgmlType type = hf_type(model, config.type);
  StoredModel rounded;
  const bool loses_codes = !model.codes.empty() && type != GgmlType::f32;
  if (loses_codes) {
    rounded = model;
    rounded.codes.clear();
    report.notes.push_back("the quantized values are rounded to " + std::string(ggml_type_info(type).name) + "; their codes are not written");
  }
  const StoredModel& written = loses_codes ? rounded : model;
  if (!model.spec.uniform())
    log_warn("layers differ in width or heads: attar reads this folder (attar_layers in config.json), transformers does not");
  make_folder(folder);
  check(config.shard_bytes > 0, "shard_bytes", "1 or more", std::to_string(config.shard_bytes));
  write_hf(written, folder, type, config.shard_bytes);
  const Proof proof = prove_hf(folder, written);
  if (!proof.faults.empty()) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".safetensors") fs::remove(entry.path(), ignored);
    demand_proven(proof, folder / "model.safetensors");
  }
  report.elements_proven = proof.elements;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) report.files.push_back(entry.path());
  std::sort(report.files.begin(), report.files.end());
  for (const auto& [name, tensor] : written.weights)
    report.tensors.push_back({{"name", name}, {"type", ggml_type_info(type).name}, {"shape", tensor.shape},
                              {"bytes", tensor.rows() * ggml_row_bytes(type, tensor.columns())}});
  return report;
}

}  // namespace attar
