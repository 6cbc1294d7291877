#include "spec/training_cost.h"

#include <algorithm>

namespace attar {

int64_t adapter_parameters(const ModelSpec& spec, const LoraConfig& lora) {
  int64_t count = 0;
  if (lora.rank <= 0) return 0;
  for (const ParameterInfo& p : parameters_of(spec)) {
    if (!is_linear_weight(p.name)) continue;
    const auto named = [&](const std::string& target) { return p.name.ends_with("." + target + ".weight"); };
    if (std::any_of(lora.targets.begin(), lora.targets.end(), named)) count += lora.rank * (p.shape[0] + p.shape[1]);
  }
  return count;
}

double training_flops(const ModelSpec& spec, int64_t tokens, int64_t seq, const LoraConfig& lora) {
  // A row of length 0 has no attention: what is left are the weights' products.
  const double weights = forward_flops(spec, tokens, 0), attention = forward_flops(spec, tokens, seq) - weights;
  if (lora.rank <= 0) return 3 * (weights + attention);
  return 2 * weights + 3 * attention + 6.0 * static_cast<double>(adapter_parameters(spec, lora)) * static_cast<double>(tokens);
}

double recomputed_flops(const ModelSpec& spec, int64_t tokens, int64_t seq) {
  const double head = 2.0 * static_cast<double>(spec.vocab) * static_cast<double>(spec.hidden) * static_cast<double>(tokens);
  return forward_flops(spec, tokens, seq) - head;
}

int64_t training_state_bytes(const ModelSpec& spec, const TrainConfig& train, const LoraConfig& lora) {
  // The weights as they were read and the copy that is trained; of what is trained gradients, two moments, and the average where there is one.
  const int64_t all = parameter_count(spec), trained = lora.rank > 0 ? adapter_parameters(spec, lora) : all;
  return 4 * (2 * all + (3 + (train.ema > 0 ? 1 : 0)) * trained + (lora.rank > 0 ? trained : 0));
}

int64_t forward_bytes(const ModelSpec& spec, int64_t tokens) {
  int64_t widest = 0;
  for (const LayerSpec& layer : spec.layers)
    widest = std::max(widest, 4 * spec.hidden + std::max(3 * layer.ffn, 2 * (layer.heads + 2 * layer.kv_heads) * spec.head_size));
  return 4 * tokens * widest;
}

int64_t activation_bytes(const ModelSpec& spec, const TrainConfig& train, int64_t rows, int64_t seq) {
  const int64_t tokens = rows * seq;
  int64_t kept = 0, widest = 0;  // float32 numbers a token
  for (const LayerSpec& layer : spec.layers) {
    // Inputs of the two norms, of the linears, q, k, v, the attention's output, gate, up and their product; forward's and backward's.
    const int64_t one = 6 * spec.hidden + 4 * layer.ffn + 4 * layer.heads * spec.head_size + 3 * layer.kv_heads * spec.head_size;
    widest = std::max(widest, one);
    kept += train.recompute_layers ? spec.hidden : one;
  }
  if (train.recompute_layers) kept += widest;
  // The fused loss: logits in chunks of rows, about as much as the head's gradient (kernels/linear_loss_fused.cc).
  const int64_t head = 4 * spec.vocab * spec.hidden, chunks = std::min<int64_t>(std::max<int64_t>(head, 16 << 20), 512 << 20);
  return 4 * tokens * kept + head + std::min(chunks, 8 * tokens * spec.vocab);
}

}  // namespace attar
