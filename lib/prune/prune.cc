#include "prune/prune.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/rng.h"
#include "spec/pruned_spec.h"

namespace attar {
namespace {

const char* const kFfnWeights[] = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};

/// Importance of the FFN channels of one layer, (F) float64: higher stays.
at::Tensor ffn_scores(const Checkpoint& model, int64_t layer, const PruneConfig& config, const ActivationStatistics& statistics, uint64_t seed) {
  const std::string down = layer_name(layer, "mlp.down_proj.weight");
  const int64_t width = model.spec.layers[static_cast<size_t>(layer)].ffn;
  if (config.criterion == "activation") {
    const auto found = statistics.magnitude.find(down);
    check(found != statistics.magnitude.end() && found->second.numel() == width, "statistics of '" + down + "'", str(width, " channels"),
          found == statistics.magnitude.end() ? "none" : str(found->second.numel()), "collect them from this very model");
    return found->second.to(at::kDouble);
  }
  if (config.criterion == "magnitude") {
    at::Tensor squares = model.weights.at(down).to(at::kDouble).square().sum(0);
    for (const char* part : {"mlp.gate_proj.weight", "mlp.up_proj.weight"}) squares += model.weights.at(layer_name(layer, part)).to(at::kDouble).square().sum(1);
    return squares.sqrt();
  }
  check(config.criterion == "random", "criterion", "activation, magnitude or random", config.criterion);
  at::Tensor scores = at::empty({width}, at::kDouble);
  Rng rng(seed, static_cast<uint64_t>(layer));
  for (int64_t i = 0; i < width; ++i) scores[i] = rng.uniform();
  return scores;
}

}  // namespace

Checkpoint prune(const Checkpoint& model, const PruneConfig& config, const ActivationStatistics& statistics, uint64_t seed, Json& report) {
  Checkpoint out = model;
  out.codes.clear();
  out.spec = pruned_spec(model.spec, config);
  report = {{"criterion", config.criterion}, {"layers", Json::array()}};
  for (int64_t layer = 0; layer < static_cast<int64_t>(model.spec.layers.size()); ++layer) {
    const int64_t before = model.spec.layers[static_cast<size_t>(layer)].ffn, after = out.spec.layers[static_cast<size_t>(layer)].ffn;
    const at::Tensor scores = ffn_scores(model, layer, config, statistics, seed);
    // Stable, so that equal scores keep the lower channel; then in the order of the channels, which keeps files comparable.
    const at::Tensor order = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
    const at::Tensor kept = std::get<0>(at::sort(order.slice(0, 0, after)));
    for (const char* part : kFfnWeights) {
      const bool down = std::string(part) == "mlp.down_proj";
      at::Tensor& weight = out.weights.at(layer_name(layer, std::string(part) + ".weight"));
      weight = weight.index_select(down ? 1 : 0, kept).contiguous();
      const auto bias = out.weights.find(layer_name(layer, std::string(part) + ".bias"));
      if (!down && bias != out.weights.end()) bias->second = bias->second.index_select(0, kept).contiguous();
    }
    const double total = scores.sum().item<double>();
    report["layers"].push_back({{"layer", layer}, {"ffn_before", before}, {"ffn", after},
                                {"kept_importance", total > 0 ? scores.index_select(0, kept).sum().item<double>() / total : 1.0}});
  }
  return out;
}

}  // namespace attar
