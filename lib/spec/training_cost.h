#pragma once
#include "spec/configs.h"
#include "spec/model_spec.h"

namespace attar {

/// Numbers that low-rank adapters of this model have; 0 for rank 0.
int64_t adapter_parameters(const ModelSpec& spec, const LoraConfig& lora);

/// Floating-point operations of a training step on `tokens` tokens in rows of `seq`: forward, gradients by activations, gradients by weights. With
/// adapters the weights get none. What is computed a second time (checkpoint_activations) is no part of it: see recomputed_flops.
double training_flops(const ModelSpec& spec, int64_t tokens, int64_t seq, const LoraConfig& lora);
/// The layers' forward pass, which checkpoint_activations computes again going back.
double recomputed_flops(const ModelSpec& spec, int64_t tokens, int64_t seq);

/// Bytes that a training holds: weights, gradients, moments, average, adapters.
int64_t training_state_bytes(const ModelSpec& spec, const TrainConfig& train, const LoraConfig& lora);
/// Bytes that a forward pass alone over so many tokens holds at its widest, float32, logits apart.
int64_t forward_bytes(const ModelSpec& spec, int64_t tokens);
/// Bytes that a step of `rows` rows of `seq` tokens holds for its backward pass, float32, and the fused loss's buffers.
int64_t activation_bytes(const ModelSpec& spec, const TrainConfig& train, int64_t rows, int64_t seq);

}  // namespace attar
