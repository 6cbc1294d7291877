#pragma once
#include "data/rows.h"
#include "dist/process_group.h"
#include "prune/surgery.h"

namespace attar {

/// `model` with output projections in which the kept heads also say what they can of the heads that go: o_kept += o_gone M, where M kept outputs
/// give the gone ones with least squared error over the first `limit` calibration rows (of many solutions, the smallest). Heads that depend linearly
/// on kept ones then go without loss. Only o_proj differs from `model`; one layer's second moments, (H d, H d) float64, are held at a time.
Checkpoint with_merged_heads(const Checkpoint& model, const Kept& kept, const TokenRows& rows, int64_t limit, ProcessGroup& group);

/// M (gone, kept) of least |z_gone - M z_kept|^2 from moments (n, n): sum of z z^T, float64. `kept` and `gone`: channel numbers (int64).
at::Tensor least_squares_map(const at::Tensor& moments, const at::Tensor& kept, const at::Tensor& gone);

}  // namespace attar
