#include "calibrate/activations.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "data/source.h"
#include "formats/safetensors.h"
#include "spec/model_spec.h"

namespace attar {
namespace {

bool is_norm_output(const std::string& name) {
  // What a norm gives is what the first linear after it reads.
  return name.ends_with("self_attn.q_proj.weight") || name.ends_with("mlp.gate_proj.weight");
}

/// Adds up one batch after another. Padding and what stands on it is weighted with zero.
class Collector {
 public:
  explicit Collector(int64_t layers) : influence_(static_cast<size_t>(layers), 0.0), inputs_(static_cast<size_t>(layers)) {}

  void begin(const at::Tensor& segments) {
    valid_ = segments.ge(0).to(at::kDouble);
    lengths_ = valid_.sum(1).clamp_min(1);
  }

  void see(const std::string& name, const at::Tensor& x) {
    const at::Tensor values = x.detach().to(at::kDouble);
    const at::Tensor mask = valid_.unsqueeze(-1);
    if (name.ends_with(".input") || name.ends_with(".output")) return block(name, values);
    const at::Tensor magnitude = (values.abs() * mask).sum(1).div(lengths_.unsqueeze(-1)).square().sum(0);
    add(magnitude_, name, magnitude);
    add(square_, name, (values.square() * mask).sum(at::IntArrayRef({0, 1})));
    if (is_norm_output(name)) add(magnitude_, kHidden, magnitude);
  }

  ActivationStatistics finish(int64_t rows) {
    ActivationStatistics out;
    out.rows = rows;
    out.tokens = tokens_;
    for (auto& [name, sum] : magnitude_)
      if (name == kHidden) out.hidden_magnitude = sum.sqrt();
      else out.magnitude[name] = sum.sqrt();
    for (auto& [name, sum] : square_) out.mean_square[name] = sum / static_cast<double>(std::max<int64_t>(tokens_, 1));
    for (double sum : influence_) out.block_influence.push_back(sum / static_cast<double>(std::max<int64_t>(tokens_, 1)));
    return out;
  }
  void end() { tokens_ += static_cast<int64_t>(valid_.sum().item<double>()); }

 private:
  static void add(std::map<std::string, at::Tensor>& sums, const std::string& name, const at::Tensor& value) {
    const auto found = sums.find(name);
    if (found == sums.end()) sums[name] = value.clone();
    else found->second += value;
  }
  /// Layer's output against its input, held from a moment before.
  void block(const std::string& name, const at::Tensor& values) {
    const size_t layer = std::stoul(name.substr(std::strlen("model.layers.")));
    if (name.ends_with(".input")) {
      inputs_.at(layer) = values;
      return;
    }
    const at::Tensor cosine = at::cosine_similarity(inputs_.at(layer), values, -1, 1e-12);
    influence_.at(layer) += ((1 - cosine) * valid_).sum().item<double>();
    inputs_.at(layer) = at::Tensor();
  }

  static constexpr const char* kHidden = "hidden";
  at::Tensor valid_, lengths_;
  std::map<std::string, at::Tensor> magnitude_, square_;
  std::vector<double> influence_;
  std::vector<at::Tensor> inputs_;
  int64_t tokens_ = 0;
};

}  // namespace

ActivationStatistics collect_activations(Decoder& model, const TokenRows& rows, int64_t limit, int64_t batch) {
  at::NoGradGuard no_grad;
  const int64_t count = std::min(limit, rows.rows());
  check(count > 0, "calibration", "a row or more", "none");
  Collector collector(static_cast<int64_t>(model.spec().layers.size()));
  model.set_observer([&](const std::string& name, const at::Tensor& x) { collector.see(name, x); });
  Progress progress("calibration", count, "rows");
  for (int64_t first = 0; first < count; first += batch) {
    std::vector<int64_t> numbers;
    for (int64_t r = first; r < std::min(first + batch, count); ++r) numbers.push_back(r);
    const Batch part = make_batch(rows, numbers);
    collector.begin(part.at("segments"));
    model.hidden({part.at("ids"), part.at("segments"), {}, {}});
    collector.end();
    progress.update(first + static_cast<int64_t>(numbers.size()));
  }
  model.set_observer({});
  progress.finish();
  return collector.finish(count);
}

void save_statistics(const ActivationStatistics& s, const fs::path& file) {
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {"block_influence", at::tensor(s.block_influence, at::kDouble)}, {"counts", at::tensor(std::vector<double>{static_cast<double>(s.tokens), static_cast<double>(s.rows)}, at::kDouble)}};
  if (s.hidden_magnitude.defined()) tensors.push_back({"hidden_magnitude", s.hidden_magnitude});
  for (const auto& [name, tensor] : s.magnitude) tensors.push_back({"magnitude." + name, tensor});
  for (const auto& [name, tensor] : s.mean_square) tensors.push_back({"mean_square." + name, tensor});
  std::vector<SafetensorsWriter::Declared> declared;
  for (const auto& [name, tensor] : tensors) declared.push_back({name, Dtype::f64, tensor.sizes().vec()});
  SafetensorsWriter writer(file, declared, {{"kind", "attar activation statistics"}, {"version", "1"}});
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor flat = tensor.contiguous();
    writer.write(flat.const_data_ptr(), static_cast<size_t>(flat.nbytes()));
  }
  writer.commit();
}

ActivationStatistics load_statistics(const fs::path& path) {
  const SafetensorsFile file(path);
  const auto kind = file.metadata().find("kind");
  check(kind != file.metadata().end() && kind->second == "attar activation statistics", path.string(), "activation statistics", "another kind of file");
  ActivationStatistics out;
  for (const auto& [name, entry] : file.tensors()) {
    check(entry.dtype == Dtype::f64, path.string() + ": '" + name + "'", "F64", dtype_name(entry.dtype));
    at::Tensor tensor = at::empty(entry.shape, at::kDouble);
    std::memcpy(tensor.data_ptr(), file.bytes(name).data(), file.bytes(name).size());
    if (name == "block_influence") out.block_influence.assign(tensor.const_data_ptr<double>(), tensor.const_data_ptr<double>() + tensor.numel());
    else if (name == "hidden_magnitude") out.hidden_magnitude = tensor;
    else if (name == "counts" && tensor.numel() == 2) out.tokens = static_cast<int64_t>(tensor[0].item<double>()), out.rows = static_cast<int64_t>(tensor[1].item<double>());
    else if (name.rfind("magnitude.", 0) == 0) out.magnitude[name.substr(10)] = tensor;
    else if (name.rfind("mean_square.", 0) == 0) out.mean_square[name.substr(12)] = tensor;
  }
  return out;
}

}  // namespace attar
