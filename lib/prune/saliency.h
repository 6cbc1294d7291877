#pragma once
#include <functional>
#include <vector>

#include "calibrate/activations.h"
#include "model/checkpoint.h"
#include "prune/surgery.h"
#include "spec/configs.h"

namespace attar {

/// How much each part of a model matters; higher stays. float64 on the CPU.
struct Saliency {
  struct Layer {
    at::Tensor ffn, heads, kv_heads;  ///< (F), (H), (K)
    double whole = 0;                 ///< of the layer itself
  };
  std::vector<Layer> layers;
  at::Tensor hidden;                  ///< (D)
};

/// From activations: Minitron's magnitudes (mean over positions, L2 over rows); a head's is the L2 norm over its d channels of what o_proj reads, a
/// kv head's over its query heads; a layer's is its block influence. Error if the statistics are another model's.
Saliency activation_saliency(const ModelSpec& spec, const ActivationStatistics& statistics);
/// L2 norm of all weights that go with the part.
Saliency magnitude_saliency(const Checkpoint& model);
Saliency random_saliency(const ModelSpec& spec, uint64_t seed);
/// First-order Taylor: mean over batches of (sum over the part's weights of gradient x weight)^2, of the mean cross-entropy of `rows` (the first
/// `limit`). Source: Molchanov et al. 2019 (arXiv 1906.10771), equation 8, with gates on whole parts. Weights are left without gradients.
Saliency taylor_saliency(const Checkpoint& model, const TokenRows& rows, int64_t limit, int64_t batch, ProcessGroup& group);

/// What stays, to the widths of pruned_spec(). `loss`: calibration loss of a model without these layers, for depth_by loss; may be empty otherwise.
Kept choose(const ModelSpec& spec, const PruneConfig& config, const Saliency& saliency, const ActivationStatistics& statistics,
            const std::function<double(const std::vector<int64_t>& kept_layers)>& loss);

}  // namespace attar
