#include "calibrate/layer_walk.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "data/source.h"
#include "spec/model_spec.h"

namespace attar {

std::vector<std::vector<std::string>> input_groups(int64_t layer) {
  const auto named = [layer](const char* rest) { return layer_name(layer, rest) + ".weight"; };
  return {{named("self_attn.q_proj"), named("self_attn.k_proj"), named("self_attn.v_proj")},
          {named("self_attn.o_proj")},
          {named("mlp.gate_proj"), named("mlp.up_proj")},
          {named("mlp.down_proj")}};
}

LayerWalk::LayerWalk(Decoder& model, const TokenRows& rows, const LayerWalkOptions& options, ProcessGroup& group)
    : model_(&model), group_(&group), keep_bytes_(options.keep_bytes) {
  at::NoGradGuard no_grad;
  const int64_t count = std::min(options.rows, rows.rows());
  check(count > 0, "calibration", "a row or more", "none", "give more text, or shorter rows (data.seq)");
  if (count < options.rows) log_warn(str("calibration: ", options.rows, " rows asked, the text gives ", count));
  const int64_t batches = (count + options.batch - 1) / options.batch;
  check(batches >= group.size(), "calibration", str(group.size(), " batches or more: one a rank"), str(batches), "fewer ranks, or more rows");
  const at::Device device = model.weights().begin()->second.device();
  for (int64_t number = group.rank(); number < batches; number += group.size()) {
    std::vector<int64_t> numbers;
    for (int64_t r = number * options.batch; r < std::min((number + 1) * options.batch, count); ++r) numbers.push_back(r);
    const Batch batch = make_batch(rows, numbers);
    Part part;
    part.tokens = {batch.at("ids").to(device), batch.at("segments").to(device), {}, {}};
    part.valid = batch.at("segments").to(at::kCPU).reshape({-1}) >= 0;
    tokens_ += part.valid.sum().item<int64_t>();
    part.states = model.embedded(part.tokens).to(at::kCPU, at::kFloat);
    parts_.push_back(std::move(part));
  }
  at::Tensor total = at::full({1}, static_cast<double>(tokens_), at::kDouble);
  group.all_reduce_sum(total);
  tokens_ = static_cast<int64_t>(total.item<double>());
  check(tokens_ > 0, "calibration", "a token or more", "only padding");
}

int64_t LayerWalk::layers() const { return static_cast<int64_t>(model_->spec().layers.size()); }

at::Tensor LayerWalk::mixed(const Part& part) const {
  const at::Device device = model_->weights().begin()->second.device();
  if (part.mixed.defined()) return part.mixed.to(device);
  return model_->half_mixed(layer_, half_, model_->half_input(layer_, half_, part.states.to(device)), part.tokens);
}

void LayerWalk::finish_half() {
  const at::Device device = model_->weights().begin()->second.device();
  for (Part& part : parts_) {
    part.states = model_->half_output(layer_, half_, part.states.to(device), mixed(part)).to(at::kCPU, at::kFloat);
    part.mixed = at::Tensor();
  }
  kept_ = 0;
  half_ = half_ == Decoder::Half::attention ? Decoder::Half::feed_forward : Decoder::Half::attention;
}

void LayerWalk::show(const std::string& weight, const Visitor& visit) {
  assert(layer_ < layers());
  at::NoGradGuard no_grad;
  const std::vector<std::vector<std::string>> groups = input_groups(layer_);
  const auto found = std::find_if(groups.begin(), groups.end(),
                                  [&](const auto& names) { return std::find(names.begin(), names.end(), weight) != names.end(); });
  assert(found != groups.end());
  const bool attention = found - groups.begin() < 2, first = (found - groups.begin()) % 2 == 0;
  if (half_ == Decoder::Half::attention && !attention) finish_half();
  assert(attention == (half_ == Decoder::Half::attention));
  const at::Device device = model_->weights().begin()->second.device();
  for (Part& part : parts_) {
    const at::Tensor x = first ? model_->half_input(layer_, half_, part.states.to(device)) : mixed(part);
    const int64_t bytes = static_cast<int64_t>(x.nbytes());
    if (!first && !part.mixed.defined() && kept_ + bytes <= keep_bytes_) part.mixed = x.to(at::kCPU), kept_ += bytes;
    const at::Tensor flat = x.reshape({-1, x.size(-1)}).to(at::kCPU, at::kFloat);
    visit(part.valid.all().item<bool>() ? flat.contiguous() : flat.index({part.valid}));
  }
}

void LayerWalk::advance() {
  assert(layer_ < layers());
  at::NoGradGuard no_grad;
  if (half_ == Decoder::Half::attention) finish_half();
  finish_half();
  ++layer_;
}

}  // namespace attar
