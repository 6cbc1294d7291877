#include "prune/saliency.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/rng.h"

namespace attar {
namespace {

/// (n d) squares of channels -> (n) sums over each head's d.
at::Tensor per_head(const at::Tensor& squares, int64_t d) { return squares.view({-1, d}).sum(1); }

at::Tensor statistic(const ActivationStatistics& statistics, const std::string& name, int64_t width) {
  const auto found = statistics.magnitude.find(name);
  check(found != statistics.magnitude.end() && found->second.numel() == width, "statistics of '" + name + "'", str(width, " channels"),
        found == statistics.magnitude.end() ? "none" : str(found->second.numel()), "collect them from this very model");
  return found->second;
}

at::Tensor uniform_scores(int64_t count, Rng& rng) {
  at::Tensor scores = at::empty({count}, at::kDouble);
  for (int64_t i = 0; i < count; ++i) scores.data_ptr<double>()[i] = rng.uniform();
  return scores;
}

}  // namespace

Saliency activation_saliency(const ModelSpec& spec, const ActivationStatistics& statistics) {
  Saliency out;
  check(statistics.block_influence.size() == spec.layers.size() && statistics.hidden_magnitude.defined(), "statistics",
        str(spec.layers.size(), " layers"), str(statistics.block_influence.size()), "collect them from this very model");
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& facts = spec.layers[i];
    const auto layer = static_cast<int64_t>(i);
    Saliency::Layer scores;
    scores.ffn = statistic(statistics, layer_name(layer, "mlp.down_proj.weight"), facts.ffn);
    const at::Tensor read = statistic(statistics, layer_name(layer, "self_attn.o_proj.weight"), facts.heads * spec.head_size);
    const at::Tensor squares = per_head(read.square(), spec.head_size);
    scores.heads = squares.sqrt();
    scores.kv_heads = squares.view({facts.kv_heads, -1}).sum(1).sqrt();
    scores.whole = statistics.block_influence[i];
    out.layers.push_back(scores);
  }
  out.hidden = statistics.hidden_magnitude;
  check(out.hidden.numel() == spec.hidden, "statistics", str(spec.hidden, " hidden channels"), str(out.hidden.numel()),
        "collect them from this very model");
  return out;
}

Saliency magnitude_saliency(const Checkpoint& model) {
  const ModelSpec& spec = model.spec;
  const int64_t d = spec.head_size;
  Saliency out;
  at::Tensor hidden = at::zeros({spec.hidden}, at::kDouble);
  const auto squares = [&](const std::string& name) { return model.weights.at(name).to(at::kDouble).square(); };
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto named = [&](const char* rest) { return layer_name(static_cast<int64_t>(i), rest); };
    const LayerSpec& facts = spec.layers[i];
    const at::Tensor gate = squares(named("mlp.gate_proj.weight")), up = squares(named("mlp.up_proj.weight")),
                     down = squares(named("mlp.down_proj.weight"));
    const at::Tensor q = squares(named("self_attn.q_proj.weight")), k = squares(named("self_attn.k_proj.weight"));
    const at::Tensor v = squares(named("self_attn.v_proj.weight")), o = squares(named("self_attn.o_proj.weight"));
    Saliency::Layer scores;
    scores.ffn = (gate.sum(1) + up.sum(1) + down.sum(0)).sqrt();
    const at::Tensor heads = per_head(q.sum(1) + o.sum(0), d);
    scores.heads = heads.sqrt();
    scores.kv_heads = (heads.view({facts.kv_heads, -1}).sum(1) + per_head(k.sum(1) + v.sum(1), d)).sqrt();
    const at::Tensor all = gate.sum() + up.sum() + down.sum() + q.sum() + k.sum() + v.sum() + o.sum();
    scores.whole = std::sqrt(all.item<double>());
    hidden += gate.sum(0) + up.sum(0) + down.sum(1) + q.sum(0) + k.sum(0) + v.sum(0) + o.sum(1);
    out.layers.push_back(scores);
  }
  hidden += squares("model.embed_tokens.weight").sum(0);
  if (!spec.tied) hidden += squares("lm_head.weight").sum(0);
  out.hidden = hidden.sqrt();
  return out;
}

Saliency random_saliency(const ModelSpec& spec, uint64_t seed) {
  Saliency out;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    Rng rng(seed, i);
    Saliency::Layer scores;
    scores.ffn = uniform_scores(spec.layers[i].ffn, rng);
    scores.heads = uniform_scores(spec.layers[i].heads, rng);
    scores.kv_heads = uniform_scores(spec.layers[i].kv_heads, rng);
    scores.whole = rng.uniform();
    out.layers.push_back(scores);
  }
  Rng rng(seed, spec.layers.size());
  out.hidden = uniform_scores(spec.hidden, rng);
  return out;
}

}  // namespace attar
