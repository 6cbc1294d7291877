#pragma once
#include "device/graph.h"
#include "train/gradient_buckets.h"
#include "train/snapshot.h"
#include "train/trainer.h"

namespace attar {

/// AdamW whose moments are shared out: each rank holds and updates its part of every gradient bucket, and the new weights are gathered
/// (ZeRO-1, arXiv 1910.02054, section 5.1). A group of one holds everything and updates whole tensors.
class AdamW {
 public:
  AdamW(const std::vector<TrainParameter>& parameters, const TrainConfig& config, ProcessGroup& group, int64_t bucket_elements = kBucketElements);
  void zero();        ///< drops all gradients
  void arm() { buckets_.arm(); }  ///< before the step's last backward
  /// Sums gradients over the ranks, divides by `tokens`, clips, steps. Returns the norm before clipping, a float64 scalar on the weights' device:
  /// nothing waits for it. Where it is not finite, weights and moments stay as they are. Every rank takes part.
  at::Tensor step(double lr, double tokens);
  /// From now on steps are recorded once and replayed (device/graph.h): gradients must stay where they are. A group of one only.
  void record(MakeGraph make, bool must) { work_ = RecordedWork(std::move(make), "cuda_graph: the optimizer's step", must); }
  /// Whole tensors, the same for any number of ranks. Every rank takes part.
  void save(Snapshot& snapshot);
  void load(const Snapshot& snapshot);
  int64_t held_elements() const;  ///< elements of moments that this rank holds, first and second

 private:
  struct Piece {
    size_t parameter = 0, bucket = 0;
    int64_t begin = 0, in_bucket = 0;  ///< first element in its tensor and in this rank's part of the bucket
  };
  struct Group {
    bool decay = true;
    double lr_scale = 1;
    std::vector<Piece> pieces;
    std::vector<at::Tensor> weights, gradients, first, second, steps;
    at::Tensor lr;  ///< scalar on the weights' device
  };
  Group& group_of(const TrainParameter& parameter);
  void add(Group& group, const Piece& piece, const at::Tensor& weight);
  /// What step() asks of the device, from numbers that lie there.
  at::Tensor update();
  bool whole() const { return buckets_empty_; }
  /// Puts every piece of `tensors` in its place of `mine` and gathers.
  void gather(std::vector<at::Tensor> Group::*tensors, const std::function<void(size_t, const at::Tensor&)>& visit);

  std::vector<TrainParameter> parameters_;
  TrainConfig config_;
  ProcessGroup& ranks_;
  GradientBuckets buckets_;
  bool buckets_empty_;
  at::Device device_ = at::kCPU;
  double count_ = 0;  ///< steps done
  at::Tensor tokens_, per_token_, norm_;  ///< of the step, one over them, the gradient's norm: float64 scalars on the weights' device
  RecordedWork work_{{}, "", false};
  std::vector<Group> groups_;
};

}  // namespace attar
