#pragma once
#include "kernels/linear_loss.h"

namespace attar {

/// linear_loss as an operation of autograd: the scalar sum, differentiable in hidden (N, D) and weight (V, D).
struct DistillLoss {
  at::Tensor sum;      ///< scalar float32 with gradient
  at::Tensor terms;    ///< (2) float64 on the same device: sums of the teacher's terms and of cross-entropy, without term and row weights
  double kl() const;   ///< the teacher's; waits for the device
  double ce() const;
};
DistillLoss distill_loss(const at::Tensor& hidden, const at::Tensor& weight, const LogitTargets& targets, const at::Tensor& labels,
                         const at::Tensor& row_weights, const LossWeights& weights, double softcap, int64_t vocab,
                         const at::Tensor& rows = {});

/// Hidden-state terms: mean squared error or 1 - cosine between student (N, D) projected by projection (Dt, D) and teacher (N, Dt), summed over
/// positions whose label is not -100.
at::Tensor hidden_state_loss(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& projection, const at::Tensor& labels,
                             const std::string& kind);

}  // namespace attar
