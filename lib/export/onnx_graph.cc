#include "export/onnx_graph.h"

#include <limits>

#include "base/check.h"
#include "export/onnx_ops.h"

namespace attar {
namespace {

constexpr const char* kEmbedTokens = "model.embed_tokens.weight";

/// The graph of one decoder under construction; what all layers share stands in members.
class OnnxDecoder {
 public:
  OnnxDecoder(OnnxWriter& writer, const StoredModel& model, const std::map<std::string, OnnxForm>& forms)
      : ops_(writer, model, forms), writer_(writer), spec_(model.spec) {}

  void build() {
    declare_inputs();
    measure();
    angles(spec_.rope, "rotary", cos_, sin_);
    for (const LayerSpec& layer : spec_.layers)
      if (layer.local_rope && local_cos_.empty()) angles(spec_.local_rope, "rotary_local", local_cos_, local_sin_);
    std::string x = ops_.embedding("embedding", "input_ids", kEmbedTokens);
    if (spec_.embedding_scale != 1) x = ops_.op("embedding", "Mul", {x, ops_.number(spec_.embedding_scale)});
    for (size_t i = 0; i < spec_.layers.size(); ++i) x = layer(static_cast<int64_t>(i), x);
    x = ops_.norm("final", x, "model.norm.weight");
    x = ops_.linear("logits", x, spec_.tied ? kEmbedTokens : "lm_head.weight");
    if (spec_.logit_softcap > 0) x = softcap("logits", x, spec_.logit_softcap);
    writer_.node("Identity", {x}, {"logits"});
    writer_.output("logits", OnnxType::f32, {{"batch_size"}, {"sequence_length"}, {"", spec_.vocab}});
    for (size_t i = 0; i < spec_.layers.size(); ++i)
      for (const char* what : {".key", ".value"})
        writer_.output("present." + std::to_string(i) + what, OnnxType::f32, cache_shape(spec_.layers[i], "total_sequence_length"));
  }

 private:
  std::vector<OnnxWriter::Dim> cache_shape(const LayerSpec& layer, const char* length) const {
    return {{"batch_size"}, {"", layer.kv_heads}, {length}, {"", spec_.head_size}};
  }

  void declare_inputs() {
    writer_.input("input_ids", OnnxType::i64, {{"batch_size"}, {"sequence_length"}});
    writer_.input("attention_mask", OnnxType::i64, {{"batch_size"}, {"total_sequence_length"}});
    writer_.input("position_ids", OnnxType::i64, {{"batch_size"}, {"sequence_length"}});
    for (size_t i = 0; i < spec_.layers.size(); ++i)
      for (const char* what : {".key", ".value"})
        writer_.input("past_key_values." + std::to_string(i) + what, OnnxType::f32, cache_shape(spec_.layers[i], "past_sequence_length"));
  }

  /// Lengths, and which place in the cache each query and key has.
  void measure() {
    const auto length = [&](const char* of) {
      const std::string shape = ops_.op("lengths", "Shape", {of}, {{"start", int64_t{1}}, {"end", int64_t{2}}});
      return std::pair(shape, ops_.op("lengths", "Squeeze", {shape, ops_.whole({0})}));
    };
    const auto [total_list, total] = length("attention_mask");
    const auto [new_list, fresh] = length("input_ids");
    total_ = total_list;
    const std::string past = ops_.op("lengths", "Sub", {total, fresh});
    const std::string query = ops_.op("mask", "Range", {past, total, ops_.scalar(1)});
    const std::string key = ops_.op("mask", "Range", {ops_.scalar(0), total, ops_.scalar(1)});
    const std::string down = ops_.op("mask", "Unsqueeze", {query, ops_.whole({1})}), across = ops_.op("mask", "Unsqueeze", {key, ops_.whole({0})});
    distance_ = ops_.op("mask", "Sub", {down, across});
    const std::string causal = ops_.op("mask", "GreaterOrEqual", {distance_, ops_.scalar(0)});
    const std::string real = ops_.op("mask", "Cast", {"attention_mask"}, {{"to", int64_t{9}}});
    visible_ = ops_.op("mask", "And", {causal, ops_.op("mask", "Unsqueeze", {real, ops_.whole({1, 2})})});
  }

  /// What is added to scores for a window (0: none): 0 where a query may look, the lowest float elsewhere. A row of padding, which may look
  /// nowhere, then spreads evenly instead of giving NaN.
  std::string bias(int64_t window) {
    std::string& made = biases_[window];
    if (!made.empty()) return made;
    const std::string scope = window ? "mask/window_" + std::to_string(window) : "mask";
    std::string seen = visible_;
    if (window) seen = ops_.op(scope, "And", {seen, ops_.op(scope, "Less", {distance_, ops_.scalar(window)})});
    return made = ops_.op(scope, "Where", {seen, ops_.number(0), ops_.number(std::numeric_limits<float>::lowest())});
  }

  /// cos and sin of position_ids, (B, 1, T, r).
  void angles(const RopeSpec& rope, const std::string& scope, std::string& cos, std::string& sin) {
    const int64_t dims = spec_.rope_dims(rope);
    const auto table = [&](const std::string& name, int64_t length) {
      const std::vector<double> wide = rope_table(rope, dims, length, spec_.context).inverse_frequency;
      return ops_.numbers(name, {wide.begin(), wide.end()});
    };
    std::string frequencies = table(scope + ".inv_freq", 1);
    if (rope.kind == "longrope" && rope.long_factor != rope.short_factor) {
      const std::string last = ops_.op(scope, "ReduceMax", {"position_ids"}, {{"keepdims", int64_t{0}}});
      const std::string is_long = ops_.op(scope, "GreaterOrEqual", {last, ops_.scalar(rope.original_context)});
      frequencies = ops_.op(scope, "Where", {is_long, table(scope + ".inv_freq_long", rope.original_context + 1), frequencies});
    }
    const std::string positions = ops_.op(scope, "Unsqueeze", {ops_.op(scope, "Cast", {"position_ids"}, {{"to", int64_t{1}}}), ops_.whole({1, 3})});
    const std::string angle = ops_.op(scope, "Mul", {positions, frequencies});
    const double magnitude = rope_table(rope, dims, 1, spec_.context).magnitude;
    const auto wave = [&](const char* kind) {
      const std::string value = ops_.op(scope, kind, {angle});
      return magnitude == 1 ? value : ops_.op(scope, "Mul", {value, ops_.number(magnitude)});
    };
    cos = wave("Cos");
    sin = wave("Sin");
  }

  /// x (B, H, T, d): the first dims of a head turned, half against half.
  std::string rotate(const std::string& scope, const std::string& x, bool local) {
    const RopeSpec& rope = local ? spec_.local_rope : spec_.rope;
    const std::string &cos = local ? local_cos_ : cos_, &sin = local ? local_sin_ : sin_;
    const int64_t half = spec_.rope_dims(rope) / 2, rest = spec_.head_size - 2 * half;
    std::vector<std::string> parts{scope + "/a", scope + "/b"};
    std::vector<int64_t> sizes{half, half};
    if (rest > 0) {
      parts.push_back(scope + "/rest");
      sizes.push_back(rest);
    }
    writer_.node("Split", {x, ops_.whole(sizes)}, parts, {{"axis", int64_t{-1}}}, "", scope + "/Split");
    const auto times = [&](const std::string& a, const std::string& b) { return ops_.op(scope, "Mul", {a, b}); };
    std::vector<std::string> turned{ops_.op(scope, "Sub", {times(parts[0], cos), times(parts[1], sin)}),
                                    ops_.op(scope, "Add", {times(parts[1], cos), times(parts[0], sin)})};
    if (rest > 0) turned.push_back(parts[2]);
    return ops_.op(scope, "Concat", turned, {{"axis", int64_t{-1}}});
  }

  std::string softcap(const std::string& scope, const std::string& x, double cap) {
    return ops_.op(scope, "Mul", {ops_.op(scope, "Tanh", {ops_.op(scope, "Div", {x, ops_.number(cap)})}), ops_.number(cap)});
  }

  /// (0, heads, -1, S) as a shape: scores of `heads` heads.
  std::string score_shape(int64_t heads) {
    std::string& made = score_shapes_[heads];
    if (made.empty()) made = ops_.op("lengths", "Concat", {ops_.whole({0, heads, -1}), total_}, {{"axis", int64_t{0}}});
    return made;
  }

  std::string attention(int64_t index, const std::string& x) {
    const LayerSpec& layer = spec_.layers[static_cast<size_t>(index)];
    const std::string number = std::to_string(index), scope = "layers." + number + "/attention", own = layer_name(index, "self_attn.");
    const int64_t H = layer.heads, K = layer.kv_heads, d = spec_.head_size;
    const auto heads = [&](const char* what, int64_t count, bool norm) {
      const std::string inner = scope + "/" + what;
      std::string y = ops_.reshape(inner, ops_.linear(inner, x, own + what + "_proj.weight"), {0, 0, count, d});
      if (norm) y = ops_.norm(inner + "/norm", y, own + what + "_norm.weight");
      return ops_.op(inner, "Transpose", {y}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    };
    std::string q = rotate(scope + "/q/rotary", heads("q", H, spec_.qk_norm), layer.local_rope);
    const std::string k = rotate(scope + "/k/rotary", heads("k", K, spec_.qk_norm), layer.local_rope), v = heads("v", K, false);
    const std::string keys = "present." + number + ".key", values = "present." + number + ".value";
    writer_.node("Concat", {"past_key_values." + number + ".key", k}, {keys}, {{"axis", int64_t{2}}});
    writer_.node("Concat", {"past_key_values." + number + ".value", v}, {values}, {{"axis", int64_t{2}}});
    // Query heads of one kv head are neighbours: their rows together meet that head's keys in one product.
    q = ops_.op(scope, "Mul", {q, ops_.number(spec_.score_scale())});
    if (H != K) q = ops_.reshape(scope, q, {0, K, -1, d});
    std::string scores = ops_.op(scope, "MatMul", {q, ops_.op(scope, "Transpose", {keys}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}})});
    if (H != K) scores = ops_.op(scope, "Reshape", {scores, score_shape(H)});
    if (spec_.attention_softcap > 0) scores = softcap(scope, scores, spec_.attention_softcap);
    scores = ops_.op(scope, "Softmax", {ops_.op(scope, "Add", {scores, bias(layer.window)})}, {{"axis", int64_t{-1}}});
    if (H != K) scores = ops_.op(scope, "Reshape", {scores, score_shape(K)});
    std::string mixed = ops_.op(scope, "MatMul", {scores, values});
    if (H != K) mixed = ops_.reshape(scope, mixed, {0, H, -1, d});
    mixed = ops_.op(scope, "Transpose", {mixed}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    return ops_.linear(scope + "/o", ops_.reshape(scope, mixed, {0, 0, H * d}), own + "o_proj.weight");
  }

  std::string feed_forward(int64_t index, const std::string& x) {
    const std::string scope = "layers." + std::to_string(index) + "/mlp", own = layer_name(index, "mlp.");
    std::string gate = ops_.linear(scope + "/gate", x, own + "gate_proj.weight");
    if (spec_.activation == "silu") gate = ops_.op(scope, "Mul", {gate, ops_.op(scope, "Sigmoid", {gate})});
    else gate = ops_.op(scope, "Gelu", {gate}, {{"approximate", std::string(spec_.activation == "gelu_tanh" ? "tanh" : "none")}});
    const std::string up = ops_.linear(scope + "/up", x, own + "up_proj.weight");
    return ops_.linear(scope + "/down", ops_.op(scope, "Mul", {gate, up}), own + "down_proj.weight");
  }

  std::string layer(int64_t index, const std::string& x) {
    const std::string scope = "layers." + std::to_string(index);
    const auto norm = [&](const std::string& y, const char* name) { return ops_.norm(scope + "/" + name, y, layer_name(index,
        std::string(name) + ".weight")); };
    std::string added = attention(index, norm(x, "input_layernorm"));
    if (spec_.post_norms) added = norm(added, "post_attention_layernorm");
    const std::string middle = ops_.op(scope, "Add", {x, added});
    added = feed_forward(index, norm(middle, spec_.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm"));
    if (spec_.post_norms) added = norm(added, "post_feedforward_layernorm");
    return ops_.op(scope, "Add", {middle, added});
  }

  OnnxOps ops_;
  OnnxWriter& writer_;
  const ModelSpec& spec_;
  std::string cos_, sin_, local_cos_, local_sin_, total_, distance_, visible_;
  std::map<int64_t, std::string> biases_, score_shapes_;
};

}  // namespace

void build_onnx_decoder(OnnxWriter& writer, const StoredModel& model, const std::map<std::string, OnnxForm>& forms) {
  check(model.spec.activation == "silu" || model.spec.activation == "gelu_tanh" || model.spec.activation == "gelu", "activation for ONNX",
        "silu, gelu_tanh or gelu", model.spec.activation);
  OnnxDecoder(writer, model, forms).build();
}

}  // namespace attar
