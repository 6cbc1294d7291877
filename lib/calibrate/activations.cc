#include "calibrate/activations.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "calibrate/activation_sums.h"
#include "data/source.h"
#include "formats/safetensors.h"
#include "spec/model_spec.h"

namespace attar {
namespace {

constexpr const char* kStatisticsKind = "attar activation statistics";

/// Sums of one rank become those of all; every rank knows the same names.
void add_over_ranks(ActivationSums& sums, ProcessGroup& group) {
  if (group.size() == 1) return;
  std::vector<at::Tensor> flat;
  for (const auto& [name, sum] : sums.all()) flat.push_back(sum);
  at::Tensor buffer = at::cat(flat);
  group.all_reduce_sum(buffer);
  int64_t begin = 0;
  for (at::Tensor& sum : flat) {
    sum.copy_(buffer.narrow(0, begin, sum.numel()));
    begin += sum.numel();
  }
}

ActivationStatistics finished(const ActivationSums& sums, const ModelSpec& spec) {
  ActivationStatistics out;
  const auto& all = sums.all();
  out.tokens = static_cast<int64_t>(all.at("tokens")[0].item<double>());
  out.rows = static_cast<int64_t>(all.at("rows")[0].item<double>());
  const double tokens = static_cast<double>(std::max<int64_t>(out.tokens, 1));
  at::Tensor hidden = at::zeros({spec.hidden}, at::kDouble);
  for (const auto& [name, sum] : all) {
    if (name.starts_with("magnitude.")) {
      const std::string weight = name.substr(std::strlen("magnitude."));
      out.magnitude[weight] = sum.sqrt();
      out.mean_square[weight] = all.at("square." + weight) / tokens;
      if (weight.ends_with("self_attn.q_proj.weight") || weight.ends_with("mlp.gate_proj.weight")) hidden += sum;
    }
  }
  for (const auto& [name, other] : sums.same_input()) {
    out.magnitude[name] = out.magnitude.at(other);
    out.mean_square[name] = out.mean_square.at(other);
  }
  out.hidden_magnitude = hidden.sqrt();
  out.hidden_square = all.at("square.hidden") / (tokens * 2 * static_cast<double>(spec.layers.size()));
  for (size_t layer = 0; layer < spec.layers.size(); ++layer)
    out.block_influence.push_back(all.at("influence.model.layers." + std::to_string(layer))[0].item<double>() / tokens);
  return out;
}

}  // namespace

ActivationStatistics collect_activations(Decoder& model, const TokenRows& rows, const CalibrationOptions& options, ProcessGroup& group) {
  at::NoGradGuard no_grad;
  const int64_t count = std::min(options.rows, rows.rows());
  check(count > 0, "calibration", "a row or more", "none", "give more text, or shorter rows (data.seq)");
  if (count < options.rows) log_warn(str("calibration: ", options.rows, " rows asked, the text gives ", count));
  ActivationSums sums;
  const std::string fingerprint =
      sha256(str(rows.fingerprint, " ", count, " ", options.batch, " ", group.rank(), "/", group.size(), " ", model.spec().layers.size()));
  int64_t first = options.partial.empty() ? 0 : sums.load(options.partial, fingerprint);
  const int64_t batches = (count + options.batch - 1) / options.batch;
  check(batches >= group.size(), "calibration", str(group.size(), " batches or more: one a rank"), str(batches), "fewer ranks, or a smaller batch");
  model.set_observer([&](const std::string& name, const at::Tensor& x) { sums.see(name, x); });
  Progress progress("calibration", count, "rows");
  progress.start_at(std::min(first * options.batch, count));
  for (int64_t number = std::max(first, group.rank()); number < batches; number += group.size()) {
    std::vector<int64_t> numbers;
    for (int64_t r = number * options.batch; r < std::min((number + 1) * options.batch, count); ++r) numbers.push_back(r);
    const Batch part = make_batch(rows, numbers);
    sums.begin(part.at("segments"));
    const at::Device device = model.weights().begin()->second.device();
    model.hidden({part.at("ids").to(device), part.at("segments").to(device), {}, {}});
    sums.end();
    progress.update(numbers.back() + 1);
    const int64_t next = number + group.size();
    if (!options.partial.empty() && next < batches && (next / group.size()) % options.save_every == 0) sums.save(options.partial, fingerprint, next);
  }
  model.set_observer({});
  progress.finish();
  add_over_ranks(sums, group);
  return finished(sums, model.spec());
}

void save_statistics(const ActivationStatistics& s, const fs::path& file) {
  const std::vector<double> counts = {static_cast<double>(s.tokens), static_cast<double>(s.rows)};
  std::vector<std::pair<std::string, at::Tensor>> tensors = {{"block_influence", at::tensor(s.block_influence, at::kDouble)},
                                                             {"counts", at::tensor(counts, at::kDouble)}};
  if (s.hidden_magnitude.defined()) tensors.push_back({"hidden_magnitude", s.hidden_magnitude});
  if (s.hidden_square.defined()) tensors.push_back({"hidden_square", s.hidden_square});
  for (const auto& [name, tensor] : s.magnitude) tensors.push_back({"magnitude." + name, tensor});
  for (const auto& [name, tensor] : s.mean_square) tensors.push_back({"mean_square." + name, tensor});
  std::vector<SafetensorsWriter::Declared> declared;
  for (const auto& [name, tensor] : tensors) declared.push_back({name, Dtype::f64, tensor.sizes().vec()});
  std::map<std::string, std::string> facts = {{"kind", kStatisticsKind}, {"version", "2"}};
  if (!s.model.empty()) facts["model"] = s.model;
  SafetensorsWriter writer(file, declared, facts);
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor flat = tensor.contiguous();
    writer.write(flat.const_data_ptr(), static_cast<size_t>(flat.nbytes()));
  }
  writer.commit();
}

ActivationStatistics load_statistics(const fs::path& path) {
  const SafetensorsFile file(path);
  const auto kind = file.metadata().find("kind");
  check(kind != file.metadata().end() && kind->second == kStatisticsKind, path.string(), kStatisticsKind, "another kind of file");
  ActivationStatistics out;
  if (const auto model = file.metadata().find("model"); model != file.metadata().end()) out.model = model->second;
  for (const auto& [name, entry] : file.tensors()) {
    check(entry.dtype == Dtype::f64, path.string() + ": '" + name + "'", "F64", dtype_name(entry.dtype));
    at::Tensor tensor = at::empty(entry.shape, at::kDouble);
    std::memcpy(tensor.data_ptr(), file.bytes(name).data(), file.bytes(name).size());
    const double* values = tensor.const_data_ptr<double>();
    if (name == "block_influence") out.block_influence.assign(values, values + tensor.numel());
    else if (name == "hidden_magnitude") out.hidden_magnitude = tensor;
    else if (name == "hidden_square") out.hidden_square = tensor;
    else if (name == "counts" && tensor.numel() == 2) out.tokens = static_cast<int64_t>(values[0]), out.rows = static_cast<int64_t>(values[1]);
    else if (name.starts_with("magnitude.")) out.magnitude[name.substr(std::strlen("magnitude."))] = tensor;
    else if (name.starts_with("mean_square.")) out.mean_square[name.substr(std::strlen("mean_square."))] = tensor;
  }
  return out;
}

}  // namespace attar
