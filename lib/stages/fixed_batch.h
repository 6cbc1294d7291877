#pragma once
#include "distill/distill_loss.h"
#include "model/decoder.h"
#include "train/trainer.h"

namespace attar {

/// A student's loss from its hidden states (B, T, D) after the final norm. labels (N), position_weights (N) or undefined; `rows` as linear_loss has
/// them.
DistillLoss states_loss(const Decoder& student, const at::Tensor& hidden, const LogitTargets& targets, const at::Tensor& labels,
                        const at::Tensor& position_weights, const LossWeights& weights, int64_t vocab, const at::Tensor& rows = {});

/// What a distillation step computes, whatever its batch.
struct FixedLoss {
  const Decoder* student = nullptr;
  const Decoder* teacher = nullptr;  ///< live; null: a cache, or nobody
  LossWeights weights;
  int64_t vocab = 0;
  bool with_teacher = false;         ///< the log has its terms
};

/// The batch with fixed shapes: attention's plans, labels and a cache's columns as inputs; of the B * T positions all but one a row are computed,
/// as many as can have a label, and those without one count for nothing. `share`: what the log's terms are multiplied by. ids may lie on the device,
/// the rest lies on the host and is checked there.
FixedBatch fixed_batch(const FixedLoss& loss, const Batch& batch, const LogitTargets& cached, const at::Tensor& position_weights, double share);

}  // namespace attar
