#pragma once
#include <ATen/core/Tensor.h>

#include "dist/process_group.h"

namespace attar {

/// The sum of x x^T over a linear's inputs x: its Hessian for the squared error of the outputs, up to a factor. (in, in) float32 on the CPU.
/// Only tiles on and above the diagonal are summed, in an order that neither threads nor the other tiles change.
class GramSum {
 public:
  explicit GramSum(int64_t in);
  void add(const at::Tensor& x);  ///< (n, in) float32 on the CPU, contiguous
  /// Added over the ranks, both triangles, equal bit for bit to its transpose. The sum is handed over: nothing can be added afterwards.
  at::Tensor take(ProcessGroup& group);

 private:
  at::Tensor sum_;
};

}  // namespace attar
