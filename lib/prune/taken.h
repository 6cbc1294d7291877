#pragma once
#include <ATen/core/Tensor.h>

namespace attar {

/// The rows and columns of a matrix that are kept, each value times `factor`: multiplied in float64, rounded once. float32 of the CPU
/// is read once and written once, by all threads. Indices (n) int64; undefined or all of them: the dimension stays as it is. Nothing to do: the
/// tensor itself, not a copy. A vector has rows only.
at::Tensor taken(const at::Tensor& tensor, const at::Tensor& rows, const at::Tensor& columns, double factor = 1);

}  // namespace attar
