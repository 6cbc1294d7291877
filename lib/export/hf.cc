#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "export/export.h"
#include "export/prove.h"

namespace attar {
namespace {

/// What the weights are stored as: all alike, or float32, which holds them all.
at::ScalarType common_dtype(const Checkpoint& model) {
  if (!model.codes.empty()) return at::kFloat;
  std::optional<at::ScalarType> common;
  for (const auto& [name, tensor] : model.weights) {
    if (common && *common != tensor.scalar_type()) return at::kFloat;
    common = tensor.scalar_type();
  }
  return common == at::kHalf || common == at::kBFloat16 ? *common : at::kFloat;
}

at::ScalarType hf_dtype(const Checkpoint& model, const std::string& type) {
  if (type.empty()) return common_dtype(model);
  if (type == "fp32" || type == "f32") return at::kFloat;
  if (type == "fp16" || type == "f16") return at::kHalf;
  if (type == "bf16") return at::kBFloat16;
  fail("type of a Hugging Face folder", "fp32, fp16 or bf16", type, nearest_hint(type, {"fp32", "fp16", "bf16"}));
}

/// Compares a few rows at a time: a whole tensor as float32 would be the largest thing in memory.
void compare_rows(const std::string& name, const at::Tensor& weight, const at::Tensor& found, Proof& proof) {
  const int64_t rows = found.size(0), columns = found.dim() == 2 ? found.size(1) : 1;
  const int64_t step = std::max<int64_t>(1, (int64_t{1} << 22) / std::max<int64_t>(columns, 1));
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const at::Tensor got = found.narrow(0, begin, count).to(at::kFloat).contiguous();
    const at::Tensor expected = weight.narrow(0, begin, count).to(at::kCPU).to(found.scalar_type()).to(at::kFloat).contiguous();
    const size_t faults = proof.faults.size();
    compare_values(name, expected.const_data_ptr<float>(), got.const_data_ptr<float>(), got.numel(), columns, begin, proof);
    if (proof.faults.size() > faults) return;
  }
}

}  // namespace

Proof prove_hf(const fs::path& folder, const Checkpoint& model) {
  LoadOptions options;
  options.keep_dtype = true;
  options.tokenizer = false;
  const Checkpoint again = load_checkpoint(folder, options);
  Proof proof;
  for (const auto& [name, weight] : model.weights) {
    const auto found = again.weights.find(name);
    if (found == again.weights.end() || found->second.sizes() != weight.sizes()) {
      proof.faults.push_back({"tensor " + name, attar::str("shape ", weight.sizes()),
                              found == again.weights.end() ? "no such tensor" : attar::str(found->second.sizes()), ""});
    } else {
      compare_rows(name, weight.detach(), found->second, proof);
    }
    if (proof.faults.size() >= 8) return proof;
  }
  for (const auto& [name, tensor] : again.weights)
    if (!model.weights.count(name) && proof.faults.size() < 8)
      proof.faults.push_back({"tensor " + name, "no such tensor in this model", attar::str(tensor.sizes()), ""});
  for (const auto& [name, code] : again.codes) {
    const auto own = model.codes.find(name);
    if (own == model.codes.end()) continue;  // codes beside values that were compared
    const bool scaled = code.type != GgmlType::i8 || (own->second.scales.defined() && at::equal(own->second.scales.to(at::kCPU), code.scales));
    if (own->second.type != code.type || !scaled || !at::equal(own->second.blocks.to(at::kCPU), code.blocks.to(at::kCPU)))
      proof.faults.push_back({"codes of " + name, std::string("the model's ") + ggml_type_info(own->second.type).name + " codes", "others", ""});
  }
  return proof;
}

ExportReport export_hf(const Checkpoint& model, const ExportConfig& config, const fs::path& folder) {
  ExportReport report;
  const at::ScalarType dtype = hf_dtype(model, config.type);
  Checkpoint rounded;
  const bool loses_codes = !model.codes.empty() && dtype != at::kFloat;
  if (loses_codes) {
    rounded = model;
    rounded.codes.clear();
    report.notes.push_back("the quantized values are rounded to " + std::string(c10::toString(dtype)) + "; their codes are not written");
  }
  const Checkpoint& written = loses_codes ? rounded : model;
  if (!model.spec.uniform())
    log_warn("layers differ in width or heads: attar reads this folder (attar_layers in config.json), transformers does not");
  make_folder(folder);
  check(config.shard_bytes > 0, "shard_bytes", "1 or more", std::to_string(config.shard_bytes));
  save_checkpoint(written, folder, dtype, config.shard_bytes);
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
    report.tensors.push_back({{"name", name}, {"type", c10::toString(dtype)}, {"shape", tensor.sizes().vec()},
                              {"bytes", tensor.numel() * static_cast<int64_t>(c10::elementSize(dtype))}});
  return report;
}

}  // namespace attar
