#include "calibrate/layer_walk.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "data/source.h"
#include "spec/model_spec.h"

namespace attar {

namespace {

/// Leaves a layer in the middle: every input asked for was shown.
struct AllSeen {};

}  // namespace

std::vector<std::vector<std::string>> input_groups(int64_t layer) {
  const auto named = [layer](const char* rest) { return layer_name(layer, rest) + ".weight"; };
  return {{named("self_attn.q_proj"), named("self_attn.k_proj"), named("self_attn.v_proj")},
          {named("self_attn.o_proj")},
          {named("mlp.gate_proj"), named("mlp.up_proj")},
          {named("mlp.down_proj")}};
}

LayerWalk::LayerWalk(Decoder& model, const TokenRows& rows, const LayerWalkOptions& options, ProcessGroup& group) : model_(&model), group_(&group) {
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

void LayerWalk::show(const std::vector<std::string>& weights, const Visitor& visit) {
  assert(layer_ < layers());
  at::NoGradGuard no_grad;
  const at::Device device = model_->weights().begin()->second.device();
  for (const Part& part : parts_) {
    size_t seen = 0;
    model_->set_observer([&](const std::string& name, const at::Tensor& x) {
      if (std::find(weights.begin(), weights.end(), name) == weights.end()) return;
      const at::Tensor flat = x.detach().reshape({-1, x.size(-1)}).to(at::kCPU, at::kFloat);
      visit(name, part.valid.all().item<bool>() ? flat.contiguous() : flat.index({part.valid}));
      if (++seen == weights.size()) throw AllSeen{};
    });
    try {
      model_->after_layer(layer_, part.states.to(device), part.tokens);
    } catch (const AllSeen&) {
      // What follows in the layer is of no interest.
    } catch (...) {
      model_->set_observer({});
      throw;
    }
  }
  model_->set_observer({});
}

void LayerWalk::advance() {
  assert(layer_ < layers());
  at::NoGradGuard no_grad;
  const at::Device device = model_->weights().begin()->second.device();
  for (Part& part : parts_) part.states = model_->after_layer(layer_, part.states.to(device), part.tokens).to(at::kCPU, at::kFloat);
  ++layer_;
}

}  // namespace attar
