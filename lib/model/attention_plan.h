#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "model/decoder.h"

namespace attar {

/// What all layers of one forward share: angles and who may look at whom.
struct AttentionPlan {
  at::Tensor cos, sin;              ///< (T, r) or (B, T, r) float32
  at::Tensor local_cos, local_sin;  ///< of ModelSpec::local_rope; undefined if no layer uses it
  bool causal = false;              ///< plainly causal over T = S: windows as wide as S need no bias
  at::Tensor documents;             ///< (S + 1) int32: where each document begins in the B * T positions, and their number; with it, no bias is made
  int64_t longest = 0;              ///< document, in positions
  std::map<int64_t, at::Tensor> bias;  ///< by window (0: none): (1 or B, 1, T, S) float32, 0 or -infinity; undefined: all may look (causal apart)
};

/// visit(name, tensor) for every tensor of a plan, those that are undefined too.
template <class Plan, class Visit>
void each_tensor(Plan& plan, Visit visit) {
  visit("cos", plan.cos), visit("sin", plan.sin), visit("local_cos", plan.local_cos), visit("local_sin", plan.local_sin);
  visit("documents", plan.documents);
  for (auto& [window, bias] : plan.bias) visit("bias." + std::to_string(window), bias);
}
/// The same plan where documents are only as many and as long as the batch's room makes them: their list is filled with empty ones up to the next
/// power of two, `longest` is T. Plans of batches alike then differ in their tensors' values alone.
AttentionPlan with_room(AttentionPlan plan, int64_t positions);

/// Checks the batch's shapes and ids against the model and makes the plan. `cached`: positions already in the cache. `by_documents`: packed rows as a
/// list of documents instead of a mask.
AttentionPlan plan_attention(const ModelSpec& spec, const TokenBatch& tokens, int64_t cached, bool by_documents = false);

/// softmax(q k^T scale + bias) v, with scores soft-capped before the bias if softcap > 0.
/// q (B, H, T, d), k and v (B, K, S, d), H a multiple of K -> (B, H, T, d), any layout.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias, bool causal, double scale, double softcap);

/// The same where documents lie side by side: causal inside each, at most `window` positions back (0: all). On a GPU bfloat16 by LibTorch's flash
/// attention of variable length; elsewhere one document after the other. No soft cap.
at::Tensor attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& documents, int64_t longest,
                            int64_t window, double scale);

}  // namespace attar
