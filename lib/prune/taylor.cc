#include <ATen/ATen.h>

#include "base/check.h"
#include "base/log.h"
#include "data/source.h"
#include "kernels/linear_loss.h"
#include "model/decoder.h"
#include "prune/saliency.h"

namespace attar {
namespace {

/// Gradient x weight of one batch, summed over what belongs to each part; squares are added up over the batches.
class TaylorSums {
 public:
  explicit TaylorSums(const ModelSpec& spec) : spec_(spec) {
    for (const LayerSpec& layer : spec.layers)
      sums_.layers.push_back({zeros(layer.ffn), zeros(layer.heads), zeros(layer.kv_heads), 0});
    sums_.hidden = zeros(spec.hidden);
  }

  void add(const StateDict& weights) {
    const auto product = [&](const std::string& name) { return (weights.at(name).grad() * weights.at(name).detach()).to(at::kCPU, at::kDouble); };
    const int64_t d = spec_.head_size;
    at::Tensor hidden = product("model.embed_tokens.weight").sum(0) + product("model.norm.weight");
    if (!spec_.tied) hidden += product("lm_head.weight").sum(0);
    for (size_t i = 0; i < spec_.layers.size(); ++i) {
      const auto named = [&](const char* rest) { return layer_name(static_cast<int64_t>(i), rest); };
      Saliency::Layer& to = sums_.layers[i];
      const at::Tensor gate = product(named("mlp.gate_proj.weight")), up = product(named("mlp.up_proj.weight"));
      const at::Tensor down = product(named("mlp.down_proj.weight")), o = product(named("self_attn.o_proj.weight"));
      const at::Tensor q = product(named("self_attn.q_proj.weight")), k = product(named("self_attn.k_proj.weight"));
      const at::Tensor v = product(named("self_attn.v_proj.weight"));
      to.ffn += (gate.sum(1) + up.sum(1) + down.sum(0)).square();
      const at::Tensor heads = (q.sum(1) + o.sum(0)).view({-1, d}).sum(1);
      to.heads += heads.square();
      to.kv_heads += (heads.view({spec_.layers[i].kv_heads, -1}).sum(1) + (k.sum(1) + v.sum(1)).view({-1, d}).sum(1)).square();
      // Both branches end in o_proj and down_proj: without these the layer gives nothing.
      const double whole = (o.sum() + down.sum()).item<double>();
      to.whole += whole * whole;
      hidden += gate.sum(0) + up.sum(0) + down.sum(1) + q.sum(0) + k.sum(0) + v.sum(0) + o.sum(1);
      for (const char* rest : {"input_layernorm.weight", "post_attention_layernorm.weight", "pre_feedforward_layernorm.weight",
                               "post_feedforward_layernorm.weight"})
        if (weights.count(named(rest))) hidden += product(named(rest));
    }
    sums_.hidden += hidden.square();
  }

  Saliency finish(ProcessGroup& group, int64_t batches) {
    const double count = static_cast<double>(batches);
    const auto reduce = [&](at::Tensor& sum) {
      group.all_reduce_sum(sum);
      sum /= count;
    };
    reduce(sums_.hidden);
    for (Saliency::Layer& layer : sums_.layers) {
      reduce(layer.ffn);
      reduce(layer.heads);
      reduce(layer.kv_heads);
      at::Tensor whole = at::full({1}, layer.whole, at::kDouble);
      reduce(whole);
      layer.whole = whole.item<double>();
    }
    return std::move(sums_);
  }

 private:
  static at::Tensor zeros(int64_t n) { return at::zeros({n}, at::kDouble); }
  const ModelSpec& spec_;
  Saliency sums_;
};

}  // namespace

Saliency taylor_saliency(const Checkpoint& model, const TokenRows& rows, int64_t limit, int64_t batch, ProcessGroup& group) {
  const int64_t count = std::min(limit, rows.rows());
  check(count > 0, "calibration", "a row or more", "none", "give more text, or shorter rows (data.seq)");
  const int64_t batches = (count + batch - 1) / batch;
  StateDict weights;
  for (const auto& [name, tensor] : model.weights) weights[name] = tensor.detach();
  Decoder decoder(model.spec, weights);
  decoder.require_grad(true);
  TaylorSums sums(model.spec);
  Progress progress("taylor", batches, "batches");
  for (int64_t number = group.rank(); number < batches; number += group.size()) {
    std::vector<int64_t> numbers;
    for (int64_t r = number * batch; r < std::min((number + 1) * batch, count); ++r) numbers.push_back(r);
    const Batch part = make_batch(rows, numbers);
    const at::Tensor hidden = decoder.hidden({part.at("ids"), part.at("segments"), {}, {}});
    const at::Tensor labels = part.at("labels").reshape({-1}), flat = hidden.reshape({-1, hidden.size(-1)}), output = decoder.output_weight();
    const double tokens = std::max(1.0, labels.ne(-100).sum().item<double>());
    const LinearLossResult loss =
        linear_loss(flat.detach(), output.detach(), {}, labels, {}, LossWeights{.ce = 1}, model.spec.logit_softcap, model.spec.vocab, true);
    flat.backward(loss.grad_hidden / tokens);
    // The output matrix gets its share beside what flowed through the embedding when the two are one.
    const at::Tensor own = (loss.grad_weight / tokens).to(output.scalar_type());
    output.mutable_grad() = output.grad().defined() ? output.grad() + own : own;
    sums.add(decoder.weights());
    for (auto& [name, tensor] : decoder.weights()) tensor.mutable_grad() = at::Tensor();
    progress.update(number + 1);
  }
  progress.finish();
  decoder.require_grad(false);
  return sums.finish(group, batches);
}

}  // namespace attar
