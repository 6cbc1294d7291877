#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "model/checkpoint.h"
#include "model/lora.h"

namespace attar {

struct AttentionPlan;  // model/attention_plan.h

/// Token ids of B sequences of T positions and who may look at whom. Without `mask`: causal, inside equal `segments` (if defined).
struct TokenBatch {
  at::Tensor ids;        ///< (B, T) int64
  at::Tensor segments;   ///< (B, T) int32 document numbers, -1 padding; undefined: one document a row, padding (if any) at its end
  at::Tensor positions;  ///< (B, T) int64; undefined: counted from 0 inside each segment (after the cache's length)
  at::Tensor mask;       ///< (B, T, S) bool, true = may look; S = cached + T; undefined: as above. Windows are applied on top by position
  std::shared_ptr<const AttentionPlan> plan = {};  ///< made before by Decoder::plan(): then segments, positions and mask are not looked at
};

/// Keys and values of past positions, per layer (B, K, S, d). Grows by blocks; reorder() and crop() for search.
class KvCache {
 public:
  int64_t length() const { return length_; }
  void crop(int64_t length);
  /// Appends (B, K, T, d) of a layer and returns all (B, K, S+T, d) views.
  std::pair<at::Tensor, at::Tensor> append(int64_t layer, const at::Tensor& key, const at::Tensor& value);
  void advance(int64_t count) { length_ += count; }
  /// Copies row 0 (batch of one) to `rows` rows.
  KvCache expanded(int64_t rows) const;
  /// Only these rows (int64 numbers, on the cache's device), in that order.
  KvCache selected(const at::Tensor& rows) const;

 private:
  std::vector<at::Tensor> keys_, values_;
  int64_t length_ = 0;
};

/// One decoder for every family: what differs stands in ModelSpec. Weights are plain tensors; autograd works through all of it.
class Decoder {
 public:
  /// Checks names and shapes against parameters_of(spec).
  Decoder(ModelSpec spec, StateDict weights);
  /// Fresh weights: normal with deviation 0.02 (residual outputs 0.02 / sqrt(2 L)), norms 1 (0 with norm_offset); same seed, same bits.
  static Decoder random(const ModelSpec& spec, uint64_t seed, at::Device device = at::kCPU);

  const ModelSpec& spec() const { return spec_; }
  StateDict& weights() { return weights_; }
  const StateDict& weights() const { return weights_; }
  void require_grad(bool wanted);

  /// Hidden states after the final norm, (B, T, D). With a cache, appends to it. `states`: its keys are layers, counted from 1, and their
  /// outputs (B, T, D) before the final norm are put there, with gradient where there is one.
  at::Tensor hidden(const TokenBatch& tokens, KvCache* cache = nullptr, std::map<int64_t, at::Tensor>* states = nullptr) const;
  /// What hidden() makes of who may look at whom before its first layer, for a batch without a cache.
  std::shared_ptr<const AttentionPlan> plan(const TokenBatch& tokens) const;
  /// The same in pieces, for walks that go layer by layer: (B, T, D) that enters the first layer; one layer (from 0); the norm after the last.
  at::Tensor embedded(const TokenBatch& tokens) const;
  at::Tensor after_layer(int64_t layer, const at::Tensor& x, const TokenBatch& tokens) const;
  at::Tensor after_norm(const at::Tensor& x) const;
  /// A layer is two halves and each half three steps, for walks that change weights between them: what q, k, v (gate, up) read, (B, T, D); from
  /// that, what o (down) reads, (B, T, in); x and what o (down) adds to it. One after the other they are after_layer(), bit for bit.
  enum class Half { attention, feed_forward };
  at::Tensor half_input(int64_t layer, Half half, const at::Tensor& x) const;
  at::Tensor half_mixed(int64_t layer, Half half, const at::Tensor& input, const TokenBatch& tokens) const;
  at::Tensor half_output(int64_t layer, Half half, const at::Tensor& x, const at::Tensor& mixed) const;
  /// The output matrix (V, D) as the forward uses it (tied: the embedding), through the weight hook.
  at::Tensor output_weight() const;
  /// hidden (.., D) -> logits (.., V), soft cap applied.
  at::Tensor logits(const at::Tensor& hidden) const;

  /// Replaces a two-dimensional weight wherever the forward uses it (fake quantization, masks). Called once per forward and weight.
  using WeightHook = std::function<at::Tensor(const std::string& name, const at::Tensor& weight)>;
  void set_weight_hook(WeightHook hook) { weight_hook_ = std::move(hook); }
  /// Replaces the input (.., in) of a linear, under the linear's weight name; hidden() replaces what enters the output matrix.
  using InputHook = std::function<at::Tensor(const std::string& name, const at::Tensor& input)>;
  void set_input_hook(InputHook hook) { input_hook_ = std::move(hook); }
  /// Replaces keys and values (B, K, T, d) before attention: what a cache of fewer bits would give back.
  using CacheHook = std::function<at::Tensor(const at::Tensor& states)>;
  void set_cache_hook(CacheHook hook) { cache_hook_ = std::move(hook); }
  /// Sees the input (B, T, in) of every linear, under the linear's weight name, and each layer's input and output hidden states under
  /// "model.layers.N.input" / "model.layers.N.output".
  using Observer = std::function<void(const std::string& name, const at::Tensor& input)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }
  /// Adds low-rank products to the linears that the adapters name; shared with whoever trains them. Null: none.
  void set_adapters(std::shared_ptr<const LoraAdapters> adapters) { adapters_ = std::move(adapters); }
  /// Keeps only each layer's input for the backward pass and computes the layer once more there. The model must outlive the backward pass.
  bool recompute_layers = false;
  bool autocast_bf16 = false;  ///< matrix products in bfloat16, sums and norms in float32
  /// Packed rows by attention of variable length instead of a mask; on a GPU that happens of itself where flash attention can.
  bool by_documents = false;

 private:
  at::Tensor weight(const std::string& name) const;
  at::Tensor linear(const at::Tensor& x, const std::string& name) const;
  at::Tensor attended(int64_t layer, const at::Tensor& x, const AttentionPlan& plan, KvCache* cache) const;
  at::Tensor gated_product(int64_t layer, const at::Tensor& x) const;
  at::Tensor norm(const at::Tensor& x, const std::string& name) const;
  bool apart_by_documents(const TokenBatch& tokens) const;
  at::Tensor run_layer(int64_t layer, at::Tensor x, const AttentionPlan& plan, KvCache* cache) const;
  ModelSpec spec_;
  StateDict weights_;
  WeightHook weight_hook_;
  InputHook input_hook_;
  CacheHook cache_hook_;
  Observer observer_;
  std::shared_ptr<const LoraAdapters> adapters_;
};

}  // namespace attar
