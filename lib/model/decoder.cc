#include "model/decoder.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "model/attention_plan.h"
#include "model/layer_ops.h"
#include "model/recompute.h"

namespace attar {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr int64_t kRandomBlock = 1 << 14;

/// Normal numbers that depend on seed, name and index alone, whatever the number of threads.
at::Tensor normal_tensor(const std::vector<int64_t>& shape, double deviation, uint64_t seed, const std::string& name) {
  at::Tensor result = at::empty(shape, at::kFloat);
  const uint64_t stream = stream_of(name);
  float* data = result.data_ptr<float>();
  const int64_t count = result.numel(), blocks = (count + kRandomBlock - 1) / kRandomBlock;
#pragma omp parallel for schedule(dynamic)
  for (int64_t block = 0; block < blocks; ++block) {
    Rng rng(seed, stream, static_cast<uint64_t>(block) << 32);
    const int64_t end = std::min(count, (block + 1) * kRandomBlock);
    for (int64_t i = block * kRandomBlock; i < end; ++i) data[i] = static_cast<float>(rng.normal() * deviation);
  }
  return result;
}

}  // namespace

Decoder::Decoder(ModelSpec spec, StateDict weights) : spec_(std::move(spec)), weights_(std::move(weights)) {
  std::vector<Fault> faults;
  const std::vector<ParameterInfo> wanted = parameters_of(spec_);
  for (const ParameterInfo& parameter : wanted) {
    const auto found = weights_.find(parameter.name);
    if (found == weights_.end()) {
      faults.push_back({"tensor " + parameter.name, "to be there", "nothing", ""});
    } else if (found->second.sizes() != at::IntArrayRef(parameter.shape)) {
      faults.push_back({"tensor " + parameter.name, attar::str("shape ", at::IntArrayRef(parameter.shape)), attar::str(found->second.sizes()), ""});
    }
  }
  if (faults.empty() && weights_.size() != wanted.size()) {
    std::map<std::string, bool> known;
    for (const ParameterInfo& parameter : wanted) known[parameter.name] = true;
    for (const auto& [name, tensor] : weights_)
      if (!known.count(name)) faults.push_back({"tensor " + name, "no such tensor in a model of this kind", attar::str(tensor.sizes()), ""});
  }
  if (!faults.empty()) throw Error(std::move(faults));
}

Decoder Decoder::random(const ModelSpec& spec, uint64_t seed, at::Device device) {
  constexpr double kDeviation = 0.02;
  const double residual = kDeviation / std::sqrt(2.0 * static_cast<double>(std::max<size_t>(spec.layers.size(), 1)));
  StateDict weights;
  for (const ParameterInfo& parameter : parameters_of(spec)) {
    const std::string& name = parameter.name;
    at::Tensor tensor;
    if (parameter.shape.size() == 2) {
      const bool into_residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
      tensor = normal_tensor(parameter.shape, into_residual ? residual : kDeviation, seed, name);
    } else {
      tensor = at::full(parameter.shape, name.ends_with(".bias") || spec.norm_offset ? 0.0 : 1.0, at::kFloat);
    }
    weights[name] = tensor.to(device);
  }
  return Decoder(spec, std::move(weights));
}

void Decoder::require_grad(bool wanted) {
  for (auto& [name, tensor] : weights_) tensor.requires_grad_(wanted);
}

at::Tensor Decoder::weight(const std::string& name) const {
  const at::Tensor& tensor = weights_.at(name);
  return weight_hook_ && tensor.dim() == 2 ? weight_hook_(name, tensor) : tensor;
}

at::Tensor Decoder::linear(const at::Tensor& given, const std::string& name) const {
  if (observer_) observer_(name + ".weight", given);
  const at::Tensor x = input_hook_ ? input_hook_(name + ".weight", given) : given;
  at::Tensor w = weight(name + ".weight");
  const auto bias = weights_.find(name + ".bias");
  if (autocast_bf16) w = w.to(at::kBFloat16);
  const at::Tensor y = bias == weights_.end() ? linear_op(x, w) : at::linear(x, w, autocast_bf16 ? bias->second.to(at::kBFloat16) : bias->second);
  const LoraPair* pair = adapters_ ? adapters_->find(name + ".weight") : nullptr;
  if (!pair) return y;
  const auto low = [&](const at::Tensor& m) { return autocast_bf16 ? m.to(at::kBFloat16) : m; };
  return y + linear_op(linear_op(x, low(pair->a)), low(pair->b)) * adapters_->scale();
}

at::Tensor Decoder::norm(const at::Tensor& x, const std::string& name) const {
  const at::Tensor y = norm_op(x, weights_.at(name), spec_.norm_eps, spec_.norm_offset ? 1 : 0);
  return autocast_bf16 ? y.to(at::kBFloat16) : y;
}

at::Tensor Decoder::attended(int64_t layer, const at::Tensor& x, const AttentionPlan& plan, KvCache* cache) const {
  const LayerSpec& facts = spec_.layers[static_cast<size_t>(layer)];
  const int64_t B = x.size(0), T = x.size(1), d = spec_.head_size;
  const std::string own = layer_name(layer, "self_attn.");
  at::Tensor q = linear(x, own + "q_proj").view({B, T, facts.heads, d});
  at::Tensor k = linear(x, own + "k_proj").view({B, T, facts.kv_heads, d});
  at::Tensor v = linear(x, own + "v_proj").view({B, T, facts.kv_heads, d}).transpose(1, 2);
  if (spec_.qk_norm) {
    const double offset = spec_.norm_offset ? 1 : 0;
    q = norm_op(q, weights_.at(own + "q_norm.weight"), spec_.norm_eps, offset);
    k = norm_op(k, weights_.at(own + "k_norm.weight"), spec_.norm_eps, offset);
  }
  const at::Tensor& cos = facts.local_rope ? plan.local_cos : plan.cos;
  const at::Tensor& sin = facts.local_rope ? plan.local_sin : plan.sin;
  q = rotary_op(q, cos, sin).transpose(1, 2);
  k = rotary_op(k, cos, sin).transpose(1, 2);
  if (cache_hook_) k = cache_hook_(k), v = cache_hook_(v);
  if (cache) std::tie(k, v) = cache->append(layer, k, v);
  const int64_t window = facts.window > 0 && facts.window < k.size(2) ? facts.window : 0;
  const at::Tensor mixed = plan.documents.defined()
                               ? attend_documents(q, k, v, plan.documents, plan.longest, window, spec_.score_scale())
                               : attend(q, k, v, plan.bias.at(window), plan.causal, spec_.score_scale(), spec_.attention_softcap);
  return mixed.transpose(1, 2).reshape({B, T, facts.heads * d});
}

at::Tensor Decoder::gated_product(int64_t layer, const at::Tensor& x) const {
  const std::string own = layer_name(layer, "mlp.");
  const at::Tensor gate = linear(x, own + "gate_proj"), up = linear(x, own + "up_proj");
  return gated_op(gate, up, gate_activation_named(spec_.activation));
}

at::Tensor Decoder::half_input(int64_t layer, Half half, const at::Tensor& x) const {
  const char* name = half == Half::attention ? "input_layernorm.weight"
                     : spec_.post_norms      ? "pre_feedforward_layernorm.weight"
                                             : "post_attention_layernorm.weight";
  return norm(x, layer_name(layer, name));
}

at::Tensor Decoder::half_mixed(int64_t layer, Half half, const at::Tensor& input, const TokenBatch& tokens) const {
  return half == Half::attention ? attended(layer, input, plan_attention(spec_, tokens, 0, apart_by_documents(tokens)), nullptr)
                                 : gated_product(layer, input);
}

at::Tensor Decoder::half_output(int64_t layer, Half half, const at::Tensor& x, const at::Tensor& mixed) const {
  const bool first = half == Half::attention;
  at::Tensor added = linear(mixed, layer_name(layer, first ? "self_attn.o_proj" : "mlp.down_proj"));
  if (spec_.post_norms) added = norm(added, layer_name(layer, first ? "post_attention_layernorm.weight" : "post_feedforward_layernorm.weight"));
  return x + added;
}

at::Tensor Decoder::run_layer(int64_t layer, at::Tensor x, const AttentionPlan& plan, KvCache* cache) const {
  x = half_output(layer, Half::attention, x, attended(layer, half_input(layer, Half::attention, x), plan, cache));
  return half_output(layer, Half::feed_forward, x, gated_product(layer, half_input(layer, Half::feed_forward, x)));
}

at::Tensor Decoder::embedded(const TokenBatch& tokens) const {
  at::Tensor x = at::embedding(weight(kEmbedding), tokens.ids);
  if (autocast_bf16) x = x.to(at::kFloat);
  return spec_.embedding_scale != 1 ? x * spec_.embedding_scale : x;
}

at::Tensor Decoder::after_layer(int64_t layer, const at::Tensor& x, const TokenBatch& tokens) const {
  return run_layer(layer, x, plan_attention(spec_, tokens, 0, apart_by_documents(tokens)), nullptr);
}

bool Decoder::apart_by_documents(const TokenBatch& tokens) const {
  // What flash attention takes: bfloat16, heads of at most 256 values, a multiple of 8, scores as they are.
  const bool flash = autocast_bf16 && tokens.ids.is_cuda() && spec_.head_size % 8 == 0 && spec_.head_size <= 256;
  return (by_documents || flash) && spec_.attention_softcap <= 0;
}

at::Tensor Decoder::after_norm(const at::Tensor& x) const {
  return norm_op(x, weights_.at("model.norm.weight"), spec_.norm_eps, spec_.norm_offset ? 1 : 0);
}

std::shared_ptr<const AttentionPlan> Decoder::plan(const TokenBatch& tokens) const {
  return std::make_shared<const AttentionPlan>(plan_attention(spec_, tokens, 0, apart_by_documents(tokens)));
}

at::Tensor Decoder::hidden(const TokenBatch& tokens, KvCache* cache, std::map<int64_t, at::Tensor>* states) const {
  assert(!(cache && tokens.plan));
  const auto plan = tokens.plan ? tokens.plan
                    : cache     ? std::make_shared<const AttentionPlan>(plan_attention(spec_, tokens, cache->length()))
                                : this->plan(tokens);
  const auto layers = static_cast<int64_t>(spec_.layers.size());
  at::Tensor x = embedded(tokens);
  for (int64_t layer = 0; layer < layers; ++layer) {
    if (observer_) observer_(layer_name(layer, "input"), x);
    if (recompute_layers && !cache)
      x = recomputed(x, [this, layer, plan](const at::Tensor& input) { return run_layer(layer, input, *plan, nullptr); });
    else
      x = run_layer(layer, x, *plan, cache);
    if (observer_) observer_(layer_name(layer, "output"), x);
    if (!states) continue;
    if (const auto wanted = states->find(layer + 1); wanted != states->end()) wanted->second = x;
  }
  if (cache) cache->advance(tokens.ids.size(1));
  const at::Tensor out = after_norm(x);
  return input_hook_ ? input_hook_(spec_.tied ? kEmbedding : "lm_head.weight", out) : out;
}

at::Tensor Decoder::output_weight() const { return weight(spec_.tied ? kEmbedding : "lm_head.weight"); }

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  at::Tensor w = output_weight(), x = hidden;
  if (autocast_bf16) {
    w = w.to(at::kBFloat16);
    x = x.to(at::kBFloat16);
  }
  at::Tensor scores = linear_op(x, w).to(at::kFloat);
  if (spec_.logit_softcap > 0) scores = at::tanh(scores / spec_.logit_softcap) * spec_.logit_softcap;
  return scores;
}

}  // namespace attar
