#pragma once
#include <chrono>

#include "device/peak_rate.h"
#include "train/trainer.h"

namespace attar {

/// How fast a training goes: tokens a second, share of the machine's peak rate (MFU: the models' own operations, nothing that is computed twice,
/// over the most that the machine computes), largest memory. Time between end() and the next begin() (evaluation, snapshots) is left out.
/// One begin() and end() go round the steps of one line of the log.
class Throughput {
 public:
  Throughput(at::Device device, bool bf16, int64_t ranks);
  void begin();
  void end(double tokens, double flops);   ///< of these steps, all ranks
  void add_to(Json& line) const;           ///< tokens_per_s, mfu and peak_bytes of the last of them
  void add_to(TrainResult& result) const;  ///< of all steps so far
  std::string words() const;               ///< of all steps so far: "12.3k tokens/s, MFU 41%, 1.2 GiB"

 private:
  double mfu(double flops, double seconds) const;
  at::Device device_;
  bool bf16_;
  int64_t ranks_;
  PeakRate peak_;
  std::chrono::steady_clock::time_point begun_;
  double step_tokens_ = 0, step_flops_ = 0, step_seconds_ = 0, tokens_ = 0, flops_ = 0, seconds_ = 0, measure_at_ = 0;
};

}  // namespace attar
