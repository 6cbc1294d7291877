#include "quant/training_grid.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/check.h"
#include "quant/kept_scales.h"

namespace attar {
namespace {

const std::vector<float>* importance_of(const ImportanceMap& importance, const std::string& name) {
  const auto found = importance.find(name);
  return found == importance.end() ? nullptr : &found->second;
}

/// Kept scales; the gradient passes straight through.
struct RoundBesideScales : torch::autograd::Function<RoundBesideScales> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& weight, const QuantizedTensor* scales) {
    return round_beside_scales(weight, *scales).to(weight.device());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0], at::Tensor()};
  }
};

/// Learned scales, as fp16 stores them.
struct RoundByLearnedScales : torch::autograd::Function<RoundByLearnedScales> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight, const at::Tensor& scales,
                            const QuantizedTensor* blocks) {
    context->save_for_backward({weight, scales, blocks->blocks});
    context->saved_data["type"] = static_cast<int64_t>(blocks->type);
    return round_beside_learned(weight, scales, *blocks);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const QuantizedTensor blocks{static_cast<GgmlType>(context->saved_data["type"].toInt()), saved[0].sizes().vec(), saved[2]};
    const ScaleGradients out = learned_gradients(saved[0], saved[1], blocks, gradients[0]);
    return {out.weight, out.scales, at::Tensor()};
  }
};

}  // namespace

TrainingGrid::TrainingGrid(std::map<std::string, GgmlType> types, ImportanceMap importance, std::map<std::string, QuantizedTensor> start,
                           TrainingGridOptions options)
    : types_(std::move(types)), importance_(std::move(importance)), start_(std::move(start)), options_(options), on_(options.delay == 0) {
  // Scales found when a delay ends are of use to a resumed run only if its snapshot has them: learned ones. The others are recomputed.
  std::erase_if(start_, [&](const auto& entry) {
    const GgmlType type = entry.second.type;
    return !has_scales(type) || (options_.delay > 0 && !(options_.scales == Scales::learned && scales_can_learn(type)));
  });
  for (auto& [name, blocks] : start_) {
    if (options_.scales == Scales::learned && scales_can_learn(blocks.type))
      learned_[name] = read_scales(blocks).to(options_.device).requires_grad_(true);
    blocks = moved(blocks, options_.device);  // every step reads them there
  }
}

at::Tensor TrainingGrid::merged(const std::string& name, const at::Tensor& weight) const {
  const LoraPair* pair = adapters_ ? adapters_->find(name) : nullptr;
  return pair ? weight + at::mm(pair->b, pair->a) * adapters_->scale() : weight;
}

QuantizedTensor TrainingGrid::grid_of(const std::string& name) const {
  const auto scales = learned_.find(name);
  return scales == learned_.end() ? start_.at(name) : with_scales(start_.at(name), scales->second);
}

Decoder::WeightHook TrainingGrid::hook() {
  return [this, plain = fake_quantization(types_, importance_)](const std::string& name, const at::Tensor& given) {
    const at::Tensor weight = merged(name, given);
    if (!on_ && !judging_) return weight;
    if (!on_ || !has_own_scales(name)) return plain(name, weight);
    const auto scales = learned_.find(name);
    if (scales == learned_.end()) return RoundBesideScales::apply(weight, &start_.at(name));
    return RoundByLearnedScales::apply(weight, scales->second, &start_.at(name));
  };
}

std::vector<std::pair<std::string, at::Tensor>> TrainingGrid::parameters() const {
  std::vector<std::pair<std::string, at::Tensor>> out;
  for (const auto& [name, scales] : learned_) out.push_back({name + ".scales", scales});
  return out;
}

void TrainingGrid::begin_step(int64_t step, const StateDict& weights) {
  judging_ = false;
  on_ = step >= options_.delay;
  if (options_.delay == 0 || step != options_.delay) return;
  const at::NoGradGuard no_grad;
  for (auto& [name, blocks] : start_) {
    blocks = moved(quantize_tensor(merged(name, weights.at(name)), blocks.type, importance_of(importance_, name), options_.rounding),
                   options_.device);
    if (const auto scales = learned_.find(name); scales != learned_.end()) scales->second.copy_(read_scales(blocks));
  }
}

void TrainingGrid::write(Checkpoint& model) const {
  for (const auto& [name, type] : types_) {
    if (!has_own_scales(name)) {
      quantize_weight(model, name, type, importance_, Rounding::ggml);
      continue;
    }
    at::Tensor& weight = model.weights.at(name);
    check(at::isfinite(weight).all().item<bool>(), "quantizing '" + name + "'", "finite numbers", "infinity or NaN", "lower the learning rate");
    QuantizedTensor codes;
    weight = round_beside_scales(weight, grid_of(name), &codes);
    model.codes[name] = std::move(codes);
  }
}

at::Tensor weight_on_solution(const at::Tensor& weight, const QuantizedTensor& solution) {
  const at::Tensor wanted = dequantize_tensor(solution);
  if (!has_scales(solution.type)) return weight;
  return at::where(round_beside_scales(weight, solution).eq(wanted), weight.detach().to(at::kCPU, at::kFloat), wanted);
}

}  // namespace attar
