#pragma once
#include <memory>

#include "spec/configs.h"
#include "stages/stage.h"
#include "train/trainer.h"

namespace attar {

/// A student's training inside a stage: rows, teacher (live, cached or none), loss, optimizer, snapshots. Weights change in place.
/// `hook` stands between weights and forward (fake quantization); `after_step` may restore invariants (masks).
struct Learning {
  Checkpoint* student = nullptr;
  std::optional<fs::path> teacher;                  ///< checkpoint or cache
  std::shared_ptr<const Checkpoint> live_teacher;   ///< instead: a model already in memory
  DataConfig data;
  LossConfig loss;
  TrainConfig train;
  Decoder::WeightHook hook;
  LoraConfig lora = {};                             ///< rank above 0: adapters learn, are merged into the student and saved in out/adapter
};
/// Error if teacher and student have different tokenizers, or a cache was made of other rows. Facts go into run.facts.
void learn(StageRun& run, Learning& learning);

}  // namespace attar
