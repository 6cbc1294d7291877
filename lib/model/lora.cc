#include "model/lora.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "formats/safetensors.h"

namespace attar {

LoraAdapters::LoraAdapters(const ModelSpec& spec, const LoraConfig& config, uint64_t seed, at::Device device)
    : rank_(config.rank), alpha_(config.alpha.value_or(2 * static_cast<double>(config.rank))), targets_(config.targets) {
  check(rank_ > 0, "lora.rank", "1 or more", std::to_string(rank_));
  check(std::isfinite(alpha_) && alpha_ > 0, "lora.alpha", "above 0", std::to_string(alpha_));
  check(!targets_.empty(), "lora.targets", "at least one linear: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj", "none");
  for (const std::string& target : targets_) {
    bool found = false;
    for (const ParameterInfo& parameter : parameters_of(spec)) {
      if (!is_linear_weight(parameter.name) || !parameter.name.ends_with("." + target + ".weight")) continue;
      found = true;
      const int64_t out = parameter.shape[0], in = parameter.shape[1];
      check(rank_ <= std::min(in, out), "lora.rank", str("at most ", std::min(in, out), ", the smaller side of ", parameter.name),
            std::to_string(rank_));
      at::Tensor a = at::empty({rank_, in}, at::kFloat);
      Rng rng(seed, stream_of("lora_A." + parameter.name));
      const double deviation = 1 / std::sqrt(3.0 * static_cast<double>(in));
      for (int64_t i = 0; i < a.numel(); ++i) a.data_ptr<float>()[i] = static_cast<float>(rng.normal() * deviation);
      pairs_[parameter.name] = {a.to(device), at::zeros({out, rank_}, at::TensorOptions(at::kFloat).device(device))};
    }
    check(found, "lora.targets", "linears of a layer: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj", "'" + target + "'");
  }
}

const LoraPair* LoraAdapters::find(const std::string& weight) const {
  const auto found = pairs_.find(weight);
  return found == pairs_.end() ? nullptr : &found->second;
}

void LoraAdapters::require_grad(bool wanted) {
  for (auto& [name, pair] : pairs_) pair.a.requires_grad_(wanted), pair.b.requires_grad_(wanted);
}

void LoraAdapters::merge_into(StateDict& weights) const {
  const at::NoGradGuard no_grad;
  for (const auto& [name, pair] : pairs_) {
    at::Tensor& weight = weights.at(name);
    weight = weight.detach() + at::mm(pair.b.detach(), pair.a.detach()).mul_(scale()).to(weight.device());
  }
}

void LoraAdapters::save(const fs::path& folder, const std::string& base_model) const {
  make_folder(folder);
  write_json(folder / "adapter_config.json",
             Json{{"peft_type", "LORA"}, {"task_type", "CAUSAL_LM"}, {"base_model_name_or_path", base_model}, {"r", rank_}, {"lora_alpha", alpha_},
                  {"lora_dropout", 0.0}, {"bias", "none"}, {"target_modules", targets_}, {"fan_in_fan_out", false}, {"inference_mode", true},
                  {"init_lora_weights", true}, {"modules_to_save", nullptr}, {"use_rslora", false}, {"use_dora", false}});
  std::vector<SafetensorsWriter::Declared> declared;
  std::vector<at::Tensor> tensors;
  for (const auto& [name, pair] : pairs_) {
    const std::string module = "base_model.model." + name.substr(0, name.size() - std::string(".weight").size());
    for (const auto& [end, tensor] : {std::pair(".lora_A.weight", pair.a), std::pair(".lora_B.weight", pair.b)}) {
      declared.push_back({module + end, Dtype::f32, tensor.sizes().vec()});
      tensors.push_back(tensor.detach().to(at::kCPU, at::kFloat).contiguous());
    }
  }
  SafetensorsWriter writer(folder / "adapter_model.safetensors", std::move(declared));
  for (const at::Tensor& tensor : tensors) writer.write(tensor.const_data_ptr(), tensor.nbytes());
  writer.commit();
}

}  // namespace attar
