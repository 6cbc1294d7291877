#include "train/adamw.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/check.h"

namespace attar {
namespace {

std::vector<at::Tensor> tensors_of(const std::vector<TrainParameter>& parameters) {
  std::vector<at::Tensor> out;
  for (const TrainParameter& p : parameters) out.push_back(p.tensor);
  return out;
}

}  // namespace

AdamW::AdamW(const std::vector<TrainParameter>& parameters, const TrainConfig& config, ProcessGroup& group, int64_t bucket_elements)
    : parameters_(parameters), config_(config), ranks_(group), buckets_(tensors_of(parameters), group, bucket_elements),
      buckets_empty_(buckets_.buckets().empty()) {
  if (!parameters_.empty()) device_ = parameters_[0].tensor.device();
  tokens_ = at::zeros({}, at::TensorOptions(at::kDouble).device(device_)), per_token_ = at::zeros_like(tokens_);
  groups_.resize(2);
  groups_[1].decay = false;
  if (whole()) {
    for (size_t i = 0; i < parameters_.size(); ++i) add(group_of(parameters_[i]), {i, 0, 0, 0}, parameters_[i].tensor);
    return;
  }
  for (size_t b = 0; b < buckets_.buckets().size(); ++b) {
    const GradientBuckets::Bucket& bucket = buckets_.buckets()[b];
    const int64_t from = ranks_.rank() * bucket.part, to = from + bucket.part;
    for (const auto& member : bucket.members) {
      const TrainParameter& p = parameters_[member.tensor];
      const int64_t begin = std::max(from, member.begin), end = std::min(to, member.begin + p.tensor.numel());
      if (begin >= end) continue;
      check(p.tensor.is_contiguous(), "parameter " + p.name, "contiguous memory", "strides");
      add(group_of(p), {member.tensor, b, begin - member.begin, begin - from},
          p.tensor.detach().view({-1}).narrow(0, begin - member.begin, end - begin));
    }
  }
}

AdamW::Group& AdamW::group_of(const TrainParameter& p) {
  for (Group& group : groups_)
    if (group.decay == p.decay && group.lr_scale == p.lr_scale) return group;
  groups_.emplace_back();
  groups_.back().decay = p.decay, groups_.back().lr_scale = p.lr_scale;
  return groups_.back();
}

void AdamW::add(Group& group, const Piece& piece, const at::Tensor& weight) {
  group.pieces.push_back(piece);
  group.weights.push_back(weight);
  group.first.push_back(at::zeros_like(weight));
  group.second.push_back(at::zeros_like(weight));
  group.steps.push_back(at::zeros({}, weight.options().dtype(at::kFloat).requires_grad(false)));
}

at::Tensor AdamW::step(double lr, double tokens) {
  const at::NoGradGuard no_grad;
  buckets_.finish();
  // A GPU's kernel takes a learning rate of its own memory as float32.
  const at::TensorOptions rate = at::TensorOptions(device_.is_cpu() ? at::kDouble : at::kFloat).device(device_);
  for (Group& group : groups_) {
    if (!group.lr.defined()) group.lr = at::zeros({}, rate);
    group.lr.fill_(lr * group.lr_scale);
  }
  tokens_.fill_(tokens), per_token_.fill_(1 / tokens);
  work_.run([this] { norm_ = update(); });
  count_ += 1;
  return norm_.clone();
}

at::Tensor AdamW::update() {
  std::vector<at::Tensor> all;
  for (Group& group : groups_) {
    group.gradients.clear();
    for (size_t i = 0; i < group.pieces.size(); ++i) {
      at::Tensor& weight = group.weights[i];
      if (whole() && !weight.grad().defined()) weight.mutable_grad() = at::zeros_like(weight);
      const Piece& piece = group.pieces[i];
      group.gradients.push_back(whole() ? weight.grad() : buckets_.buckets()[piece.bucket].mine.narrow(0, piece.in_bucket, weight.numel()));
      all.push_back(group.gradients.back());
    }
  }
  // One norm per tensor, summed in a fixed order in double: the same bits on every run. All of it stays on the device.
  at::Tensor squares = at::zeros({}, at::TensorOptions(at::kDouble).device(device_));
  if (!all.empty()) squares = at::stack(at::_foreach_norm(all)).to(at::kDouble).square().sum();
  ranks_.all_reduce_sum(squares);
  const at::Tensor norm = squares.sqrt() / tokens_;
  at::Tensor scale = per_token_;
  if (config_.clip > 0) scale = at::where(norm.gt(config_.clip), scale * config_.clip / (norm + 1e-6), scale);
  const at::Tensor not_finite = norm.isfinite().logical_not().to(at::kFloat);
  if (!all.empty()) at::_foreach_mul_(all, scale.to(all[0].scalar_type()));
  for (Group& g : groups_) {
    if (g.weights.empty()) continue;
    at::_foreach_add_(g.steps, 1);
    at::_fused_adamw_(g.weights, g.gradients, g.first, g.second, {}, g.steps, g.lr, config_.beta1, config_.beta2,
                      g.decay ? config_.weight_decay : 0.0, 1e-8, false, false, /*grad_scale=*/std::nullopt, /*found_inf=*/not_finite);
  }
  gather(&Group::weights, [&](size_t parameter, const at::Tensor& elements) {
    parameters_[parameter].tensor.detach().view({-1}).copy_(elements);
  });
  return norm;
}

void AdamW::gather(std::vector<at::Tensor> Group::*tensors, const std::function<void(size_t, const at::Tensor&)>& visit) {
  for (Group& group : groups_)
    for (size_t i = 0; i < group.pieces.size() && !whole(); ++i) {
      const at::Tensor& tensor = (group.*tensors)[i];
      buckets_.buckets()[group.pieces[i].bucket].mine.narrow(0, group.pieces[i].in_bucket, tensor.numel()).copy_(tensor);
    }
  buckets_.gather(visit);
}

void AdamW::zero() {
  for (TrainParameter& p : parameters_) p.tensor.mutable_grad() = at::Tensor();
}

void AdamW::save(Snapshot& snapshot) {
  const at::NoGradGuard no_grad;
  for (const TrainParameter& p : parameters_) {
    snapshot.tensors["weight." + p.name] = p.tensor;
    snapshot.tensors["step." + p.name] = at::scalar_tensor(count_, at::kFloat);
  }
  const auto keep = [&](const char* word, std::vector<at::Tensor> Group::*tensors) {
    for (const Group& group : groups_)
      for (size_t i = 0; i < group.pieces.size() && whole(); ++i)
        snapshot.tensors[word + parameters_[group.pieces[i].parameter].name] = (group.*tensors)[i];
    // Only rank 0 writes: the others need not hold what they gather.
    gather(tensors, [&](size_t parameter, const at::Tensor& elements) {
      const TrainParameter& p = parameters_[parameter];
      if (ranks_.rank() == 0) snapshot.tensors[word + p.name] = elements.to(at::kCPU, elements.scalar_type(), false, true).view(p.tensor.sizes());
    });
  };
  keep("first.", &Group::first);
  keep("second.", &Group::second);
}

void AdamW::load(const Snapshot& snapshot) {
  const at::NoGradGuard no_grad;
  const auto tensor = [&](const std::string& name, const at::IntArrayRef& sizes) -> const at::Tensor& {
    const auto found = snapshot.tensors.find(name);
    check(found != snapshot.tensors.end() && found->second.sizes() == sizes, "the training's snapshot", "tensor '" + name + "'", "none of that shape",
          "remove it to start again");
    return found->second;
  };
  for (TrainParameter& p : parameters_) {
    p.tensor.detach().copy_(tensor("weight." + p.name, p.tensor.sizes()));
    count_ = tensor("step." + p.name, {}).item<double>();
  }
  for (Group& group : groups_)
    for (size_t i = 0; i < group.pieces.size(); ++i) {
      const TrainParameter& p = parameters_[group.pieces[i].parameter];
      const auto part = [&](const char* word, at::Tensor& place) {
        place.view({-1}).copy_(tensor(word + p.name, p.tensor.sizes()).reshape({-1}).narrow(0, group.pieces[i].begin, place.numel()));
      };
      part("first.", group.first[i]);
      part("second.", group.second[i]);
      group.steps[i].fill_(count_);
    }
}

int64_t AdamW::held_elements() const {
  int64_t out = 0;
  for (const Group& group : groups_)
    for (const at::Tensor& first : group.first) out += 2 * first.numel();
  return out;
}

}  // namespace attar
