#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "prune/saliency.h"
#include "spec/pruned_spec.h"

namespace attar {
namespace {

/// The `count` indices of highest score, ascending; equal scores keep the lower index.
at::Tensor highest(const at::Tensor& scores, int64_t count) {
  const at::Tensor order = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  return std::get<0>(at::sort(order.slice(0, 0, count)));
}

/// How many steps of `multiple` each of the layers keeps when `total` steps are left in all and the best ones of any layer stay (one at least in
/// each). Scores are divided by their layer's mean: layers differ in scale for reasons that are no importance.
std::vector<int64_t> shared_out(const std::vector<at::Tensor>& scores, int64_t multiple, int64_t total) {
  struct Step {
    double value;
    size_t layer;
    int64_t number;
  };
  std::vector<Step> steps;
  std::vector<int64_t> out(scores.size(), 0);
  for (size_t i = 0; i < scores.size(); ++i) {
    const at::Tensor falling = std::get<0>(at::sort(scores[i] / scores[i].mean().clamp_min(1e-300), 0, /*descending=*/true)).contiguous();
    const double* value = falling.const_data_ptr<double>();
    const int64_t count = std::max<int64_t>(1, falling.numel() / multiple);
    for (int64_t s = 0; s < count; ++s) {
      const int64_t end = std::min((s + 1) * multiple, falling.numel());
      steps.push_back({std::accumulate(value + s * multiple, value + end, 0.0), i, s});
    }
    out[i] = 1;
  }
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.value > b.value; });
  int64_t left = total - static_cast<int64_t>(scores.size());
  for (const Step& step : steps) {
    if (left <= 0) break;
    if (step.number == 0) continue;  // every layer has its first
    ++out[step.layer];
    --left;
  }
  return out;
}

/// The layers that stay when a contiguous block of `gone` goes: the one of least influence, or of least loss without it.
std::vector<int64_t> kept_layers(const PruneConfig& config, const Saliency& saliency, int64_t gone,
                                 const std::function<double(const std::vector<int64_t>&)>& loss) {
  const auto layers = static_cast<int64_t>(saliency.layers.size());
  check(config.depth_by == "influence" || config.depth_by == "loss", "depth_by", "influence or loss", config.depth_by);
  const auto without = [&](int64_t first) {
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < layers; ++i)
      if (i < first || i >= first + gone) kept.push_back(i);
    return kept;
  };
  std::vector<int64_t> best;
  double least = 0;
  for (int64_t first = config.protect; first + gone <= layers - config.protect; ++first) {
    double cost = 0;
    if (config.depth_by == "loss") cost = loss(without(first));
    else
      for (int64_t i = first; i < first + gone; ++i) cost += saliency.layers[static_cast<size_t>(i)].whole;
    if (best.empty() || cost < least) best = without(first), least = cost;
  }
  check(!best.empty(), "depth", str("at most ", layers - 2 * config.protect, " layers to remove"), str(gone), "protect: fewer layers at each end");
  return best;
}

}  // namespace

Kept choose(const ModelSpec& spec, const PruneConfig& config, const Saliency& saliency, const ActivationStatistics& statistics,
            const std::function<double(const std::vector<int64_t>& kept_layers)>& loss) {
  const ModelSpec target = pruned_spec(spec, config);
  Kept kept = kept_whole(spec);
  if (target.hidden < spec.hidden) {
    kept.hidden = highest(saliency.hidden, target.hidden);
    if (statistics.hidden_square.defined()) {
      const double all = statistics.hidden_square.sum().item<double>();
      if (all > 0) kept.energy = statistics.hidden_square.index_select(0, kept.hidden).sum().item<double>() / all;
    }
  }
  const auto gone = static_cast<int64_t>(spec.layers.size() - target.layers.size());
  if (gone > 0) {
    std::vector<KeptLayer> some;
    for (int64_t layer : kept_layers(config, saliency, gone, loss)) some.push_back(kept.layers[static_cast<size_t>(layer)]);
    kept.layers = some;
  }
  // Widths of each kept layer, evenly as the target says or by what the layers need.
  ModelSpec rest = spec;
  rest.layers.clear();
  for (const KeptLayer& layer : kept.layers) rest.layers.push_back(spec.layers[static_cast<size_t>(layer.layer)]);
  PruneConfig widths_only = config;
  widths_only.depth = 1;
  std::vector<LayerSpec> widths = pruned_spec(rest, widths_only).layers;
  if (config.per_layer) {
    std::vector<at::Tensor> ffn, groups;
    int64_t ffn_steps = 0, group_steps = 0;
    for (size_t i = 0; i < kept.layers.size(); ++i) {
      const Saliency::Layer& scores = saliency.layers[static_cast<size_t>(kept.layers[i].layer)];
      ffn.push_back(scores.ffn), groups.push_back(scores.kv_heads);
      ffn_steps += std::max<int64_t>(1, widths[i].ffn / config.multiple), group_steps += widths[i].kv_heads;
    }
    const std::vector<int64_t> ffn_share = shared_out(ffn, config.multiple, ffn_steps), group_share = shared_out(groups, 1, group_steps);
    for (size_t i = 0; i < widths.size(); ++i) {
      const int64_t group = widths[i].heads / widths[i].kv_heads;
      widths[i].ffn = std::min(ffn_share[i] * config.multiple, spec.layers.front().ffn);
      widths[i].kv_heads = group_share[i], widths[i].heads = group_share[i] * group;
    }
  }
  for (size_t i = 0; i < kept.layers.size(); ++i) {
    KeptLayer& layer = kept.layers[i];
    const Saliency::Layer& scores = saliency.layers[static_cast<size_t>(layer.layer)];
    const LayerSpec& before = spec.layers[static_cast<size_t>(layer.layer)];
    layer.ffn = highest(scores.ffn, widths[i].ffn);
    layer.kv_heads = highest(scores.kv_heads, widths[i].kv_heads);
    const int64_t group = before.heads / before.kv_heads, kept_of_group = widths[i].heads / widths[i].kv_heads;
    std::vector<at::Tensor> heads;
    for (int64_t g = 0; g < layer.kv_heads.numel(); ++g) {
      const int64_t first = layer.kv_heads[g].item<int64_t>() * group;
      heads.push_back(highest(scores.heads.slice(0, first, first + group), kept_of_group) + first);
    }
    layer.heads = at::cat(heads);
  }
  return kept;
}

}  // namespace attar
