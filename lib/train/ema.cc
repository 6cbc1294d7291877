#include "train/ema.h"

#include <ATen/ATen.h>

#include "base/check.h"

namespace attar {

Ema::Ema(const std::vector<TrainParameter>& parameters, double decay) : decay_(decay) {
  check(decay >= 0 && decay < 1, "train.ema", "0 (none) or a share below 1", std::to_string(decay));
  if (decay == 0) return;
  parameters_ = parameters;
  for (const TrainParameter& parameter : parameters_) averages_.push_back(parameter.tensor.detach().clone());
}

void Ema::update(int64_t step) {
  const at::NoGradGuard no_grad;
  const double s = static_cast<double>(step), kept = std::min(decay_, (1 + s) / (10 + s));
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].mul_(kept).add_(parameters_[i].tensor, 1 - kept);
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const at::Tensor weight = parameters_[i].tensor.detach().clone();
    parameters_[i].tensor.copy_(averages_[i]);
    averages_[i].copy_(weight);
  }
}

void Ema::save(Snapshot& snapshot) const {
  for (size_t i = 0; i < averages_.size(); ++i) snapshot.tensors["ema." + parameters_[i].name] = averages_[i];
}

void Ema::load(const Snapshot& snapshot) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const auto found = snapshot.tensors.find("ema." + parameters_[i].name);
    check(found != snapshot.tensors.end() && found->second.sizes() == averages_[i].sizes(), "the training's snapshot",
          "the average of '" + parameters_[i].name + "'", "none of that shape", "remove it to start again");
    averages_[i].copy_(found->second);
  }
}

}  // namespace attar
