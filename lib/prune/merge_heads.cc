#include "prune/merge_heads.h"

#include <ATen/ATen.h>

#include "base/log.h"
#include "calibrate/layer_walk.h"

namespace attar {
namespace {

/// Directions in which the kept heads move less than this share of their largest variance say nothing.
constexpr double kLeastVariance = 1e-10;

at::Tensor channels_of_heads(const at::Tensor& heads, int64_t d) {
  return (heads.unsqueeze(1) * d + at::arange(d, at::kLong).unsqueeze(0)).reshape({-1});
}

}  // namespace

at::Tensor least_squares_map(const at::Tensor& moments, const at::Tensor& kept, const at::Tensor& gone) {
  const at::Tensor own = moments.index_select(0, kept).index_select(1, kept), cross = moments.index_select(0, gone).index_select(1, kept);
  const auto [values, vectors] = at::linalg_eigh(own);
  const double least = kLeastVariance * std::max(values.max().item<double>(), 1e-300);
  const at::Tensor inverse = at::where(values > least, 1 / values, at::zeros_like(values));
  return at::mm(at::mm(cross, vectors) * inverse.unsqueeze(0), vectors.t());
}

Checkpoint with_merged_heads(const Checkpoint& model, const Kept& kept, const TokenRows& rows, int64_t limit, ProcessGroup& group) {
  at::NoGradGuard no_grad;
  Checkpoint out = model;
  Decoder decoder(model.spec, model.weights);
  LayerWalk walk(decoder, rows, {.rows = limit}, group);
  const int64_t d = model.spec.head_size;
  Progress progress("merging heads", walk.layers(), "layers");
  for (const KeptLayer& layer : kept.layers) {
    while (walk.layer() < layer.layer) walk.advance();
    const int64_t heads = model.spec.layers[static_cast<size_t>(layer.layer)].heads;
    at::Tensor goes = at::ones({heads}, at::kBool);
    goes.index_fill_(0, layer.heads, false);
    const at::Tensor gone_heads = at::nonzero(goes).reshape({-1});
    if (gone_heads.numel() > 0) {
      const std::string name = layer_name(layer.layer, "self_attn.o_proj.weight");
      at::Tensor moments = at::zeros({heads * d, heads * d}, at::kDouble);
      walk.show(name, [&](const at::Tensor& x) {
        const at::Tensor z = x.to(at::kDouble);
        moments.addmm_(z.t(), z);
      });
      group.all_reduce_sum(moments);
      const at::Tensor stays = channels_of_heads(layer.heads, d), goes_too = channels_of_heads(gone_heads, d);
      at::Tensor weight = model.weights.at(name).to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
      const at::Tensor added = at::mm(weight.index_select(1, goes_too), least_squares_map(moments, stays, goes_too));
      weight.index_add_(1, stays, added);
      out.weights[name] = weight.to(model.weights.at(name).scalar_type());
    }
    progress.update(layer.layer + 1);
  }
  progress.finish();
  return out;
}

}  // namespace attar
