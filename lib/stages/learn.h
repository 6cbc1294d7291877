#pragma once
#include <memory>

#include "spec/configs.h"
#include "prune/masks.h"
#include "quant/training_grid.h"
#include "stages/stage.h"
#include "train/trainer.h"

namespace attar {

/// A student's training inside a stage: rows, teacher (live, cached or none), loss, optimizer, snapshots. Weights change in place.
/// `masks` are applied before the first step and after every one.
struct Learning {
  Checkpoint* student = nullptr;
  std::optional<fs::path> teacher;                  ///< checkpoint or cache
  std::shared_ptr<const Checkpoint> live_teacher;   ///< instead: a model already in memory
  DataConfig data;
  LossConfig loss;
  TrainConfig train;
  std::shared_ptr<TrainingGrid> grid = {};          ///< what the weights go through on their way to the forward pass; null: nothing
  LoraConfig lora = {};                             ///< rank above 0: adapters learn, are merged into the student and saved in out/adapter
  Decoder::WeightHook weight_hook = {};             ///< without a grid: stands between the weights and the forward pass; null: nothing
  double scale_lr = 1;                              ///< learning rate of the grid's scales, as a share of the weights'
  Decoder::InputHook input_hook = {};               ///< what linears' inputs go through; null: nothing
  std::shared_ptr<const Masks> masks = {};          ///< weights that stay zero; null: none
  MakeGraph make_graph = {};                        ///< what train.cuda_graph records with, on any device; empty: the GPU's own graphs
};
/// Error if teacher and student have different tokenizers, or a cache was made of other rows. Facts go into run.facts.
void learn(StageRun& run, Learning& learning);

}  // namespace attar
