#include "prune/surgery.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "prune/taken.h"

namespace attar {
namespace {

/// Channels of heads: head h of size d covers [h d, h d + d).
at::Tensor head_channels(const at::Tensor& heads, int64_t d) {
  return (heads.unsqueeze(1) * d + at::arange(d, at::kLong).unsqueeze(0)).reshape({-1});
}

/// The tensors of a cut, made one by one.
class Surgeon {
 public:
  Surgeon(const Checkpoint& model, const Kept& kept) : model_(model), kept_(kept), D_(model.spec.hidden), D_kept_(kept.hidden.numel()) {
    out_.spec = model.spec;
    out_.tokenizer = model.tokenizer;
    out_.license = model.license, out_.base_model = model.base_model;
  }

  Checkpoint operate() {
    ModelSpec& spec = out_.spec;
    const ModelSpec& before = model_.spec;
    spec.hidden = D_kept_;
    if (D_kept_ != D_) stream_ = std::sqrt(static_cast<double>(D_kept_) / (static_cast<double>(D_) * kept_.energy));
    if (std::abs(before.embedding_scale - std::sqrt(static_cast<double>(D_))) < 1e-9 * before.embedding_scale)
      spec.embedding_scale = std::sqrt(static_cast<double>(D_kept_));
    const double embedding = stream_ * before.embedding_scale / spec.embedding_scale;
    spec.layers.clear();
    out_.weights["model.embed_tokens.weight"] = taken(model_.weights.at("model.embed_tokens.weight"), {}, kept_.hidden, embedding);
    for (const KeptLayer& layer : kept_.layers) add_layer(layer);
    // An embedding that is also the output matrix was multiplied; the norm before it takes that back.
    out_.weights["model.norm.weight"] = norm("model.norm.weight", before.tied ? 1 / (stream_ * embedding) : 1 / stream_);
    if (!before.tied) out_.weights["lm_head.weight"] = taken(model_.weights.at("lm_head.weight"), {}, kept_.hidden);
    return std::move(out_);
  }

 private:
  at::Tensor norm(const std::string& name, double factor) const {
    const at::Tensor& weight = model_.weights.at(name);
    const at::Tensor kept = taken(weight, kept_.hidden, {});
    if (std::abs(factor - 1) < 1e-15) return kept;
    const double offset = model_.spec.norm_offset ? 1 : 0;
    return ((kept.to(at::kDouble) + offset) * factor - offset).to(weight.scalar_type());
  }

  void add_layer(const KeptLayer& kept) {
    const LayerSpec& before = model_.spec.layers.at(static_cast<size_t>(kept.layer));
    LayerSpec facts = before;
    facts.ffn = kept.ffn.numel(), facts.heads = kept.heads.numel(), facts.kv_heads = kept.kv_heads.numel();
    check(facts.kv_heads > 0 && facts.heads > 0 && facts.ffn > 0 && facts.heads % facts.kv_heads == 0, str("layer ", kept.layer),
          "query heads that its kv heads divide", str(facts.heads, " and ", facts.kv_heads));
    const auto number = static_cast<int64_t>(out_.spec.layers.size());
    out_.spec.layers.push_back(facts);
    const int64_t d = model_.spec.head_size;
    const at::Tensor q = head_channels(kept.heads, d), kv = head_channels(kept.kv_heads, d);
    const auto linear = [&](const std::string& module, const at::Tensor& rows, const at::Tensor& columns, double factor = 1) {
      const std::string from = layer_name(kept.layer, module), to = layer_name(number, module);
      out_.weights[to + ".weight"] = taken(model_.weights.at(from + ".weight"), rows, columns, factor);
      const auto bias = model_.weights.find(from + ".bias");
      if (bias != model_.weights.end()) out_.weights[to + ".bias"] = taken(bias->second, rows, {}, factor);
    };
    linear("self_attn.q_proj", q, kept_.hidden);
    linear("self_attn.k_proj", kv, kept_.hidden);
    linear("self_attn.v_proj", kv, kept_.hidden);
    linear("self_attn.o_proj", kept_.hidden, q, stream_);
    linear("mlp.gate_proj", kept.ffn, kept_.hidden);
    linear("mlp.up_proj", kept.ffn, kept_.hidden);
    linear("mlp.down_proj", kept_.hidden, kept.ffn, stream_);
    for (const char* rest : {"self_attn.q_norm.weight", "self_attn.k_norm.weight"})
      if (const auto found = model_.weights.find(layer_name(kept.layer, rest)); found != model_.weights.end())
        out_.weights[layer_name(number, rest)] = found->second;
    // Norms that read the stream divide its factor out again. Those of a branch's end (Gemma 2 and 3) read what o_proj and down_proj, already
    // multiplied, give, and need no change.
    const bool ends = model_.spec.post_norms;
    const auto add_norm = [&](const char* rest, bool reads_stream) {
      if (model_.weights.count(layer_name(kept.layer, rest)))
        out_.weights[layer_name(number, rest)] = norm(layer_name(kept.layer, rest), reads_stream ? 1 / stream_ : 1);
    };
    add_norm("input_layernorm.weight", true);
    add_norm("post_attention_layernorm.weight", !ends);
    add_norm("pre_feedforward_layernorm.weight", true);
    add_norm("post_feedforward_layernorm.weight", false);
  }

  const Checkpoint& model_;
  const Kept& kept_;
  int64_t D_, D_kept_;
  double stream_ = 1;  ///< what the hidden states are multiplied by
  Checkpoint out_;
};

}  // namespace

Kept kept_whole(const ModelSpec& spec) {
  Kept out;
  out.hidden = at::arange(spec.hidden, at::kLong);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    out.layers.push_back({static_cast<int64_t>(i), at::arange(layer.ffn, at::kLong), at::arange(layer.kv_heads, at::kLong),
                          at::arange(layer.heads, at::kLong)});
  }
  return out;
}

Checkpoint load_to_cut(const fs::path& path) {
  Checkpoint model = load_checkpoint(path, {.keep_dtype = true});
  for (auto& [name, tensor] : model.weights)
    if (tensor.scalar_type() != at::kFloat) tensor = tensor.to(at::kFloat);
  return model;
}

Checkpoint cut(const Checkpoint& model, const Kept& kept) { return Surgeon(model, kept).operate(); }

}  // namespace attar
