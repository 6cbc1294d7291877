#include "train/recorded_step.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/log.h"

namespace attar {
namespace {

/// The loss and its backward pass; what autograd kept for it is given back before this returns.
StepLoss forward_and_backward(const std::function<StepLoss(const NamedTensors&)>& loss, const NamedTensors& inputs) {
  StepLoss out = loss(inputs);
  out.sum.backward();
  out.sum = out.sum.detach();
  return out;
}

/// From the host by way of pinned memory, so that nothing waits.
void put(const at::Tensor& kept, const at::Tensor& given) {
  const bool by_pinned = kept.is_cuda() && given.is_cpu();
  kept.copy_(by_pinned ? given.pin_memory() : given, /*non_blocking=*/by_pinned);
}

}  // namespace

RecordedStep::RecordedStep(FixedStep step, std::vector<TrainParameter> parameters) : step_(std::move(step)) {
  for (TrainParameter& parameter : parameters) {
    gradients_.push_back(at::zeros_like(parameter.tensor.detach()));
    parameter.tensor.mutable_grad() = gradients_.back();
  }
}

void RecordedStep::zero() {
  const at::NoGradGuard no_grad;
  if (!gradients_.empty()) at::_foreach_zero_(gradients_);
}

RecordedStep::Kept* RecordedStep::kept_for(const FixedBatch& batch) {
  const auto found = kept_.find(batch.key);
  if (found != kept_.end()) return &found->second;
  if (kept_.size() == kMostRecordings) {
    if (!said_) log_info(str("cuda_graph: more than ", kMostRecordings, " shapes of batches; those of further ones are not recorded"));
    said_ = true;
    return nullptr;
  }
  Kept kept{{}, batch.loss, RecordedWork(step_.make_graph, "cuda_graph: the step", step_.must), {}};
  for (const auto& [name, tensor] : batch.inputs) kept.inputs[name] = at::empty(tensor.sizes(), tensor.options().device(step_.device));
  return &kept_.emplace(batch.key, std::move(kept)).first->second;
}

StepLoss RecordedStep::run(const Batch& given) {
  const FixedBatch batch = step_.fix(given);
  StepLoss out;
  if (Kept* kept = kept_for(batch)) {
    for (const auto& [name, tensor] : batch.inputs) put(kept->inputs.at(name), tensor);
    kept->work.run([kept] { kept->out = forward_and_backward(kept->loss, kept->inputs); });
    replayed_ += kept->work.recorded();
    // The next replay writes over what this one left.
    out.sum = kept->out.sum.clone();
    for (const NamedSum& sum : kept->out.sums) out.sums.push_back({sum.name, sum.value.detach().clone()});
  } else {
    NamedTensors inputs;
    for (const auto& [name, tensor] : batch.inputs) put(inputs[name] = at::empty(tensor.sizes(), tensor.options().device(step_.device)), tensor);
    out = forward_and_backward(batch.loss, inputs);
  }
  out.tokens = batch.tokens, out.positions = batch.positions, out.flops = batch.flops;
  return out;
}

}  // namespace attar
