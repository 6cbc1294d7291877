#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/source.h"
#include "device/graph.h"
#include "dist/process_group.h"
#include "spec/configs.h"

namespace attar {

/// A tensor that training changes.
struct TrainParameter {
  std::string name;
  at::Tensor tensor;
  bool decay = true;  ///< weight decay applies
  double lr_scale = 1;  ///< share of the learning rate
};

/// A number for the log; on a GPU it is read when a line is written, not before.
struct NamedSum {
  std::string name;
  at::Tensor value;  ///< a scalar on any device
  NamedSum(std::string called, at::Tensor scalar);
  NamedSum(std::string called, double number);
};

/// What a loss function gives for one batch: a differentiable sum over `tokens` valid tokens, and named sums for the log.
struct StepLoss {
  at::Tensor sum;
  double tokens = 0;
  std::vector<NamedSum> sums;
  double positions = 0;  ///< tokens read, learned or not: what tokens/s counts; 0: as `tokens`
  double flops = 0;      ///< floating-point operations the models need for them, forward and backward; 0: not known, and no utilisation is logged
};
using LossFunction = std::function<StepLoss(const Batch&)>;

using NamedTensors = std::map<std::string, at::Tensor>;
/// A batch as a step of fixed shapes takes it.
struct FixedBatch {
  std::string key;      ///< batches of one key differ in the values of their inputs alone
  NamedTensors inputs;  ///< on the host or the step's device
  /// The same for every batch of the key: reads nothing but the inputs, then on the device, and does not wait for it. Its numbers do not count.
  std::function<StepLoss(const NamedTensors&)> loss;
  double tokens = 0, positions = 0, flops = 0;  ///< as StepLoss has them
};
/// A loss function in two halves, so that the device's can be recorded.
struct FixedStep {
  std::function<FixedBatch(const Batch&)> fix;
  MakeGraph make_graph;
  at::Device device = at::kCPU;
  bool must = false;  ///< what cannot be recorded is an Error; else it is done as it stands
};

struct TrainerOptions {
  TrainConfig config;
  std::string label = "training";
  fs::path folder;          ///< snapshot.safetensors, log.jsonl and TensorBoard's events live here; kept for resumption
  at::Device device = at::kCPU;  ///< whose memory and peak rate are logged
  bool bf16 = false;             ///< matrix products are bf16's: the rate that utilisation is a share of
  std::string fingerprint;  ///< of everything that decides the result; a snapshot of another run is not used
  /// Instead of the loss function: steps are recorded once and replayed. A group of one only. Absent: no recordings.
  std::optional<FixedStep> fixed;
  /// Named numbers on held-out data ("loss" is used to choose the best); may be empty.
  std::function<std::vector<std::pair<std::string, double>>()> evaluate;
  /// Before every step, with its number from 0, also after a resumption (what a snapshot held is in place).
  std::function<void(int64_t step)> before_step;
  /// After every optimizer step (masks are applied again here).
  std::function<void(int64_t step)> after_step;
};

struct TrainResult {
  int64_t steps = 0;
  double tokens = 0, seconds = 0;   ///< of this process
  double loss = 0;                  ///< mean per token over the last tenth of the steps
  std::vector<std::pair<std::string, double>> held_out;  ///< the last evaluation
  int64_t best_step = 0;
  double tokens_per_s = 0, mfu = 0;  ///< over this process's steps, evaluation left out, all ranks together; mfu 0: not known
  double peak_flops = 0;             ///< what mfu is a share of, all ranks together
  std::string peak_flops_from;
  int64_t replayed = 0;              ///< batches of this process that a recording did
  int64_t peak_bytes = 0;            ///< largest memory of rank 0
};

/// Learning rate of step `step` (0-based) as a share of the highest.
double schedule_factor(const TrainConfig& config, int64_t step);

/// AdamW over any loss: gradient sums are divided by the valid tokens of all accumulation steps and ranks, clipped, applied.
/// Parameters are changed in place. Killed anywhere and run again with the same options, it ends with the same bits.
/// A loss that is not finite: Error naming the step, which changes no weight; the last good snapshot stays. The device is waited for only every
/// config.log_every steps, and where a snapshot or an evaluation is due.
TrainResult train(std::vector<TrainParameter> parameters, const LossFunction& loss, Source& source, ProcessGroup& group,
                  const TrainerOptions& options);

}  // namespace attar
