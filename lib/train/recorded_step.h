#pragma once
#include <map>

#include "device/graph.h"
#include "train/trainer.h"

namespace attar {

/// Forward and backward pass of batches by recordings, one for each key, up to kMostRecordings; batches of further keys are done as they stand.
/// Inputs and gradients lie in tensors of their own that stay where they are.
class RecordedStep {
 public:
  static constexpr size_t kMostRecordings = 4;
  /// `parameters` get gradients that are not given back.
  RecordedStep(FixedStep step, std::vector<TrainParameter> parameters);
  /// Sets the gradients to 0.
  void zero();
  /// Adds the batch's gradients to the parameters'. What it returns is a copy without gradient.
  StepLoss run(const Batch& batch);
  /// Batches done by a recording so far.
  int64_t replayed() const { return replayed_; }

 private:
  struct Kept {
    NamedTensors inputs;
    std::function<StepLoss(const NamedTensors&)> loss;
    RecordedWork work;
    StepLoss out;
  };
  Kept* kept_for(const FixedBatch& batch);
  FixedStep step_;
  std::vector<at::Tensor> gradients_;
  std::map<std::string, Kept> kept_;
  bool said_ = false;
  int64_t replayed_ = 0;
};

}  // namespace attar
