#include "prune/statistics_masks.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "prune/mask_rules.h"

namespace attar {

Masks mask_by_statistics(Checkpoint& model, const PruneConfig& config, const ActivationStatistics& statistics) {
  check(config.method == "wanda", "calibration", "method wanda", "method " + config.method, "leave calibration out");
  const MaskPattern pattern = parse_mask_pattern(config.pattern);
  Masks masks{config.method, config.pattern, {}};
  model.codes.clear();
  for (const ParameterInfo& p : parameters_of(model.spec)) {
    if (!is_linear_weight(p.name)) continue;
    const auto found = statistics.mean_square.find(p.name);
    check(found != statistics.mean_square.end() && found->second.numel() == p.shape[1], "statistics of '" + p.name + "'",
          str(p.shape[1], " channels"), found == statistics.mean_square.end() ? "none" : str(found->second.numel()),
          "collect them from this very model");
    check(pattern.of == 0 || p.shape[1] % pattern.of == 0, "pattern " + config.pattern, str("rows that ", pattern.of, " divides"),
          str(p.name, " with ", p.shape[1], " inputs"), "use a share (0.5), or another m");
    at::Tensor& weight = model.weights.at(p.name);
    const at::Tensor scores = weight.to(at::kDouble).abs() * found->second.sqrt();
    const at::Tensor alive = pattern.of ? highest_of_groups(scores, pattern.zeros, pattern.of) : highest_of_rows(scores, pattern.share);
    weight = weight.masked_fill(alive.logical_not(), 0);
    masks.alive[p.name] = alive;
  }
  return masks;
}

}  // namespace attar
