#pragma once
#include "train/snapshot.h"
#include "train/trainer.h"

namespace attar {

/// Moving average of parameters: average <- d average + (1 - d) weight after every step, with d = min(decay, (1 + step) / (10 + step)), so that the
/// weights of the beginning are soon forgotten. Every rank keeps the same one.
class Ema {
 public:
  /// Error if decay is outside [0, 1). 0: nothing is kept and every call does nothing.
  Ema(const std::vector<TrainParameter>& parameters, double decay);
  void update(int64_t step);  ///< step: of the optimizer, counted from 1
  void swap();                ///< parameters <-> averages; twice is as before
  void save(Snapshot& snapshot) const;
  void load(const Snapshot& snapshot);

 private:
  std::vector<TrainParameter> parameters_;
  std::vector<at::Tensor> averages_;
  double decay_;
};

}  // namespace attar
