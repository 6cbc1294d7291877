#include "spec/pruned_spec.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace attar {
namespace {

ModelSpec with_ffn(const ModelSpec& spec, double share, int64_t multiple) {
  ModelSpec out = spec;
  for (LayerSpec& layer : out.layers) {
    const int64_t wanted = std::llround(share * static_cast<double>(layer.ffn) / static_cast<double>(multiple)) * multiple;
    layer.ffn = std::clamp<int64_t>(wanted, std::min(multiple, layer.ffn), layer.ffn);
  }
  return out;
}

}  // namespace

ModelSpec pruned_spec(const ModelSpec& spec, const PruneConfig& config) {
  check(config.multiple > 0, "multiple", "1 or more", std::to_string(config.multiple));
  if (config.parameters <= 0) {
    check(config.ffn > 0 && config.ffn <= 1, "ffn", "a share above 0, at most 1", std::to_string(config.ffn));
    return with_ffn(spec, config.ffn, config.multiple);
  }
  check(config.ffn == 1.0, "parameters", "a budget or a ratio", "both", "leave ffn out");
  ModelSpec smallest = with_ffn(spec, 0, config.multiple);
  check(parameter_count(smallest) <= config.parameters, "parameters", str("a budget of ", parameter_count(smallest), " or more: what FFN pruning alone can reach"),
        std::to_string(config.parameters));
  int64_t widest = 0;
  for (const LayerSpec& layer : spec.layers) widest = std::max(widest, layer.ffn);
  ModelSpec best = smallest;
  for (int64_t kept = config.multiple; kept <= widest; kept += config.multiple) {
    const ModelSpec candidate = with_ffn(spec, static_cast<double>(kept) / static_cast<double>(widest), config.multiple);
    if (parameter_count(candidate) <= config.parameters) best = candidate;
  }
  return best;
}

}  // namespace attar
