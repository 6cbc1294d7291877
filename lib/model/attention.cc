#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <set>

#include "base/check.h"
#include "model/attention_plan.h"

namespace attar {
namespace {

/// Whether every row is one document with padding, if any, at its end: then causal order alone keeps documents and padding apart.
bool one_document_a_row(const at::Tensor& segments) {
  const int64_t rows = segments.size(0), length = segments.size(1);
  const int32_t* data = segments.const_data_ptr<int32_t>();
  for (int64_t b = 0; b < rows; ++b) {
    const int32_t* row = data + b * length;
    int64_t t = 0;
    while (t < length && row[t] == row[0]) ++t;
    while (t < length && row[t] == -1) ++t;
    if (t < length) return false;
  }
  return true;
}

/// Positions counted from 0 where the segment number changes: (B, T) int64.
at::Tensor positions_of(const at::Tensor& segments) {
  at::Tensor positions = at::empty(segments.sizes(), at::kLong);
  const int64_t rows = segments.size(0), length = segments.size(1);
  const int32_t* from = segments.const_data_ptr<int32_t>();
  int64_t* to = positions.data_ptr<int64_t>();
  for (int64_t b = 0; b < rows; ++b)
    for (int64_t t = 0; t < length; ++t) {
      const int64_t i = b * length + t;
      to[i] = t && from[i] == from[i - 1] ? to[i - 1] + 1 : 0;
    }
  return positions;
}

/// Where runs of equal segment numbers begin in the (B, T) positions, rows one after the other, and B * T at the end: (S + 1) int32.
std::pair<at::Tensor, int64_t> document_starts(const at::Tensor& segments) {
  const int64_t rows = segments.size(0), length = segments.size(1);
  const int32_t* from = segments.const_data_ptr<int32_t>();
  check(rows * length <= std::numeric_limits<int32_t>::max(), "positions of a packed batch", "fewer than 2^31", attar::str(rows * length));
  std::vector<int32_t> starts;
  int64_t longest = 0;
  for (int64_t i = 0; i < rows * length; ++i) {
    if (i % length && from[i] == from[i - 1]) continue;
    if (!starts.empty()) longest = std::max<int64_t>(longest, i - starts.back());
    starts.push_back(static_cast<int32_t>(i));
  }
  longest = std::max<int64_t>(longest, rows * length - starts.back());
  starts.push_back(static_cast<int32_t>(rows * length));
  return {at::tensor(starts, at::kInt), longest};
}

/// From the host to a device by way of pinned memory, so that nothing waits.
at::Tensor sent(const at::Tensor& tensor, at::Device device) {
  return device.is_cuda() && tensor.is_cpu() ? tensor.pin_memory().to(device, /*non_blocking=*/true) : tensor.to(device);
}

/// cos and sin of positions (T) or (B, T); `length`: longest sequence the angles serve (longrope and dynamic kinds depend on it).
std::pair<at::Tensor, at::Tensor> rotary_angles(const ModelSpec& spec, const RopeSpec& rope, const at::Tensor& positions, int64_t length) {
  const RopeTable table = rope_table(rope, spec.rope_dims(rope), length, spec.context);
  // In float32 throughout, as transformers computes them: at large positions the rounding is part of the model.
  const at::Tensor frequencies = sent(at::tensor(at::ArrayRef<double>(table.inverse_frequency)).to(at::kFloat), positions.device());
  const at::Tensor angles = positions.to(at::kFloat).unsqueeze(-1) * frequencies;
  at::Tensor cos = at::cos(angles), sin = at::sin(angles);
  if (table.magnitude != 1) {
    cos.mul_(table.magnitude);
    sin.mul_(table.magnitude);
  }
  return {cos, sin};
}

void check_tokens(const ModelSpec& spec, const TokenBatch& tokens, int64_t cached) {
  const at::Tensor& ids = tokens.ids;
  if (!ids.defined() || ids.dim() != 2 || ids.scalar_type() != at::kLong || ids.numel() == 0)
    fail("token ids", "(B, T) int64, not empty", ids.defined() ? attar::str(ids.sizes(), " ", ids.scalar_type()) : "nothing");
  if (ids.is_cpu()) {
    const at::Tensor dense = ids.contiguous();
    const int64_t* data = dense.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < dense.numel(); ++i)
      if (data[i] < 0 || data[i] >= spec.vocab) fail(str("token id at position ", i), str("0 to ", spec.vocab - 1), str(data[i]));
  }
  const auto like_ids = [&](const at::Tensor& t) { return !t.defined() || t.sizes() == ids.sizes(); };
  if (!like_ids(tokens.segments) || !like_ids(tokens.positions)) fail("segments and positions", attar::str("the shape of the ids, ", ids.sizes()));
  if (tokens.segments.defined() && cached) fail("segments", "no cache beside them", str(cached, " cached positions"));
  const at::Tensor& mask = tokens.mask;
  const std::vector<int64_t> wanted{ids.size(0), ids.size(1), cached + ids.size(1)};
  if (mask.defined() && (mask.scalar_type() != at::kBool || mask.sizes() != at::IntArrayRef(wanted)))
    fail("attention mask", attar::str("bool ", at::IntArrayRef(wanted)), attar::str(mask.scalar_type(), " ", mask.sizes()));
}

/// Additive form of "may look"; a query that may look at nothing (padding) looks everywhere, so that no NaN arises.
at::Tensor bias_of(const at::Tensor& visible) {
  const at::Tensor open = visible.logical_or(visible.any(-1, /*keepdim=*/true).logical_not());
  return at::zeros(open.sizes(), open.options().dtype(at::kFloat)).masked_fill_(open.logical_not(), -std::numeric_limits<float>::infinity());
}

}  // namespace

AttentionPlan with_room(AttentionPlan plan, int64_t positions) {
  if (!plan.documents.defined()) return plan;
  int64_t room = 16;
  while (room < plan.documents.size(0)) room *= 2;
  // The last number is the end of all: documents that begin and end there are empty.
  plan.documents = at::cat({plan.documents, plan.documents.slice(0, -1).expand({room - plan.documents.size(0)})});
  plan.longest = positions;
  return plan;
}

AttentionPlan plan_attention(const ModelSpec& spec, const TokenBatch& tokens, int64_t cached, bool by_documents) {
  check_tokens(spec, tokens, cached);
  const at::Tensor& ids = tokens.ids;
  const int64_t T = ids.size(1), S = cached + T;
  const auto device = ids.device();
  at::Tensor segments = tokens.segments;
  if (segments.defined()) segments = segments.to(at::kCPU, at::kInt).contiguous();
  const bool packed = segments.defined() && !one_document_a_row(segments);

  AttentionPlan plan;
  at::Tensor positions = tokens.positions;
  if (positions.defined()) positions = positions.to(device, at::kLong);
  else if (packed) positions = sent(positions_of(segments), device);
  const at::Tensor counted = at::arange(cached, S, at::TensorOptions(at::kLong).device(device));
  const at::Tensor used = positions.defined() ? positions : counted;
  const bool depends = spec.rope.kind == "longrope" || spec.local_rope.kind == "longrope";
  const int64_t length = depends && positions.defined() ? std::max<int64_t>(S, used.max().item<int64_t>() + 1) : S;
  std::tie(plan.cos, plan.sin) = rotary_angles(spec, spec.rope, used, length);
  std::set<int64_t> windows;
  bool local = false;
  for (const LayerSpec& layer : spec.layers) {
    windows.insert(layer.window > 0 && layer.window < S ? layer.window : 0);
    local |= layer.local_rope;
  }
  if (local) std::tie(plan.local_cos, plan.local_sin) = rotary_angles(spec, spec.local_rope, used, length);

  // Who may look, before windows: undefined where the causal order says it all.
  const at::Tensor query = counted.unsqueeze(1), key = at::arange(S, counted.options()).unsqueeze(0);
  at::Tensor visible;
  if (by_documents && packed && !tokens.mask.defined() && cached == 0) {
    auto [starts, longest] = document_starts(segments);
    plan.documents = sent(starts, device);
    plan.longest = longest;
    return plan;
  }
  if (tokens.mask.defined()) {
    visible = tokens.mask.unsqueeze(1);
  } else if (packed) {
    const at::Tensor s = sent(segments, device);
    visible = s.unsqueeze(2).eq(s.unsqueeze(1)).logical_and_(key.le(query)).unsqueeze(1);
  }
  plan.causal = !visible.defined() && cached == 0;
  // A single new position sees the whole cache; several need the order among them.
  if (!visible.defined() && !plan.causal && T > 1) visible = key.le(query).unsqueeze(0).unsqueeze(0);

  for (int64_t window : windows) {
    at::Tensor seen = visible;
    if (window) {
      at::Tensor distance = query - key;
      if (tokens.mask.defined() && positions.defined()) {
        // Cached keys count backwards from the first new position.
        const at::Tensor before = positions.narrow(1, 0, 1) - at::arange(cached, 0, -1, counted.options()).unsqueeze(0);
        distance = (positions.unsqueeze(2) - at::cat({before, positions}, 1).unsqueeze(1)).unsqueeze(1);
      }
      const at::Tensor near = distance.lt(window);
      if (!seen.defined()) seen = key.le(query);
      seen = seen.logical_and(near);
    }
    if (seen.defined()) {
      while (seen.dim() < 4) seen = seen.unsqueeze(0);
      plan.bias[window] = bias_of(seen);
    } else {
      plan.bias[window] = at::Tensor();
    }
  }
  return plan;
}

at::Tensor attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& documents, int64_t longest,
                            int64_t window, double scale) {
  const int64_t B = q.size(0), H = q.size(1), T = q.size(2), d = q.size(3);
  // (B, H, T, d) -> (B * T, H, d): without a copy, as heads are made side by side.
  const auto flat = [&](const at::Tensor& t) { return t.transpose(1, 2).reshape({B * T, t.size(1), d}); };
  const at::Tensor all_q = flat(q), all_k = flat(k), all_v = flat(v);
  at::Tensor out;
  if (q.is_cuda()) {
    std::optional<int64_t> left, right;
    if (window > 0) left = window - 1, right = 0;
    out = std::get<0>(at::_flash_attention_forward(all_q, all_k, all_v, documents, documents, longest, longest, 0.0, /*is_causal=*/true,
                                                   /*return_debug_mask=*/false, scale, left, right));
  } else {
    const int32_t* starts = documents.const_data_ptr<int32_t>();
    std::vector<at::Tensor> parts;
    for (int64_t i = 0; i + 1 < documents.size(0); ++i) {
      const auto part = [&](const at::Tensor& t) { return t.narrow(0, starts[i], starts[i + 1] - starts[i]).transpose(0, 1).unsqueeze(0); };
      const int64_t length = starts[i + 1] - starts[i];
      if (length == 0) continue;
      at::Tensor bias;
      if (window > 0 && window < length) {
        const at::Tensor place = at::arange(length), distance = place.unsqueeze(1) - place.unsqueeze(0);
        bias = bias_of(distance.ge(0).logical_and_(distance.lt(window)).unsqueeze(0).unsqueeze(0));
      }
      parts.push_back(attend(part(all_q), part(all_k), part(all_v), bias, true, scale, 0).squeeze(0).transpose(0, 1));
    }
    out = at::cat(parts);
  }
  return out.view({B, T, H, d}).transpose(1, 2);
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias, bool causal, double scale, double softcap) {
  const bool grouped = q.size(1) != k.size(1);
  if (softcap <= 0) {
    const std::optional<at::Tensor> mask = bias.defined() ? std::optional(bias.to(q.scalar_type())) : std::nullopt;
    return at::scaled_dot_product_attention(q, k, v, mask, 0.0, causal && !bias.defined(), scale, grouped);
  }
  const int64_t B = q.size(0), H = q.size(1), K = k.size(1), T = q.size(2), S = k.size(2), d = q.size(3);
  // Query heads of one kv head side by side: (B, K, H/K, T, d) against (B, K, 1, d, S).
  const at::Tensor asked = q.reshape({B, K, H / K, T, d});
  at::Tensor scores = at::matmul(asked, k.unsqueeze(2).transpose(-1, -2)).to(at::kFloat) * (scale / softcap);
  scores = at::tanh(scores) * softcap;
  if (bias.defined()) {
    scores = scores + bias.unsqueeze(2);
  } else if (causal) {
    scores = scores.masked_fill(at::ones({T, S}, scores.options().dtype(at::kBool)).triu_(1), -std::numeric_limits<float>::infinity());
  }
  const at::Tensor weights = at::softmax(scores, -1).to(v.scalar_type());
  return at::matmul(weights, v.unsqueeze(2)).reshape({B, H, T, d});
}

}  // namespace attar
