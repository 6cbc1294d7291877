#include "spec/pruned_spec.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace attar {
namespace {

/// A share of `count` in steps of `multiple`: at least one step, at most all.
int64_t kept_count(double share, int64_t count, int64_t multiple) {
  const int64_t wanted = std::llround(share * static_cast<double>(count) / static_cast<double>(multiple)) * multiple;
  return std::clamp<int64_t>(wanted, std::min(multiple, count), count);
}

ModelSpec with_ffn(const ModelSpec& spec, double share, int64_t multiple) {
  ModelSpec out = spec;
  for (LayerSpec& layer : out.layers) layer.ffn = kept_count(share, layer.ffn, multiple);
  return out;
}

void check_share(const char* key, double share) {
  check(share > 0 && share <= 1, key, "a share above 0, at most 1", std::to_string(share), "1 leaves this axis alone");
}

/// Every axis but FFN width.
ModelSpec with_other_axes(const ModelSpec& spec, const PruneConfig& config) {
  ModelSpec out = spec;
  if (config.depth < 1) {
    const auto layers = static_cast<int64_t>(spec.layers.size());
    const int64_t kept = std::max<int64_t>(1, std::llround(config.depth * static_cast<double>(layers)));
    check(kept >= std::min(layers, 2 * config.protect), "depth", str("a share that leaves the ", 2 * config.protect, " protected layers"),
          str(kept, " layers"), "protect: fewer layers at each end, or keep more");
    // Which ones go is decided by importance; where layers differ, the real choice is made by surgery.
    const int64_t first = std::min(config.protect, kept);
    out.layers.erase(out.layers.begin() + first, out.layers.begin() + first + (layers - kept));
  }
  for (LayerSpec& layer : out.layers) {
    const int64_t group = layer.heads / layer.kv_heads;
    layer.kv_heads = kept_count(config.kv_heads, layer.kv_heads, 1);
    layer.heads = layer.kv_heads * kept_count(config.heads, group, 1);
  }
  out.hidden = kept_count(config.hidden, spec.hidden, config.multiple);
  if (spec.hidden != out.hidden && std::abs(spec.embedding_scale - std::sqrt(static_cast<double>(spec.hidden))) < 1e-9 * spec.embedding_scale)
    out.embedding_scale = std::sqrt(static_cast<double>(out.hidden));
  return out;
}

}  // namespace

ModelSpec pruned_spec(const ModelSpec& spec, const PruneConfig& config) {
  check(config.multiple > 0, "multiple", "1 or more", std::to_string(config.multiple));
  check(config.protect >= 0, "protect", "0 or more", std::to_string(config.protect));
  check_share("ffn", config.ffn);
  check_share("heads", config.heads);
  check_share("kv_heads", config.kv_heads);
  check_share("hidden", config.hidden);
  check_share("depth", config.depth);
  check(!config.per_layer || spec.uniform(), "per_layer", "a model whose layers are still equally wide", "layers of different widths",
        "prune it by shares without per_layer");
  const ModelSpec other = with_other_axes(spec, config);
  if (config.parameters <= 0) return with_ffn(other, config.ffn, config.multiple);
  check(config.ffn == 1.0, "parameters", "a budget or a ratio", "both", "leave ffn out");
  ModelSpec best = with_ffn(other, 1e-12, config.multiple);
  check(parameter_count(best) <= config.parameters, "parameters",
        str("a budget of ", parameter_count(best), " or more: what FFN pruning can still reach"), std::to_string(config.parameters),
        "also prune depth, hidden or kv_heads");
  int64_t widest = 0;
  for (const LayerSpec& layer : other.layers) widest = std::max(widest, layer.ffn);
  for (int64_t kept = config.multiple; kept <= widest; kept += config.multiple) {
    const ModelSpec candidate = with_ffn(other, static_cast<double>(kept) / static_cast<double>(widest), config.multiple);
    if (parameter_count(candidate) <= config.parameters) best = candidate;
  }
  return best;
}

}  // namespace attar
