#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "dist/process_group.h"

namespace attar {

/// Elements of a bucket: 4 MiB of float32, large enough for a network's bandwidth, small enough to begin early.
constexpr int64_t kBucketElements = int64_t{1} << 20;

/// Gradients of several tensors side by side, summed over the ranks while backward still runs. Which tensor lies in which bucket, and where, follows
/// from the tensors' order, shapes and the number of ranks alone, so that equal ranks give equal bytes. A group of one has no buckets.
class GradientBuckets {
 public:
  struct Member {
    size_t tensor;  ///< number of the tensor
    int64_t begin;  ///< of its elements in the bucket
  };
  struct Bucket {
    std::vector<Member> members;
    int64_t part = 0;       ///< elements of one rank: rank r owns [r part, (r + 1) part)
    at::Tensor flat, mine;  ///< (part * ranks) and (part): this rank's part of the sum once finish() is through
    std::function<void()> wait;
    std::vector<bool> there;
    size_t missing = 0;
  };

  /// Float tensors that require gradients, of one dtype and device.
  GradientBuckets(std::vector<at::Tensor> tensors, ProcessGroup& group, int64_t elements = kBucketElements);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  /// The next backward is the step's last: a bucket leaves as soon as all its gradients are there and those before it have left.
  void arm();
  /// Sends what is left (a tensor without gradient counts as zeros) and waits: `mine` of each bucket holds this rank's part of the sum.
  void finish();
  std::vector<Bucket>& buckets() { return buckets_; }
  /// Puts the parts of all ranks together in `flat` of every bucket and gives each to `visit` (number of the tensor, its elements).
  void gather(const std::function<void(size_t tensor, const at::Tensor& elements)>& visit);

 private:
  struct Hook;
  void arrived(size_t bucket, size_t member);
  void fill(Bucket& bucket, size_t member);
  void send_ready();
  std::vector<at::Tensor> tensors_;
  ProcessGroup& group_;
  std::vector<Bucket> buckets_;
  size_t sent_ = 0;
  bool armed_ = false;
};

}  // namespace attar
