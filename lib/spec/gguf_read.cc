#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "spec/families.h"
#include "spec/gguf_names.h"

namespace attar {
namespace {

/// A float32 of the file as the shortest decimal that gives it, so that an epsilon of 1e-5 comes back as 1e-5.
double shortest(double value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof(text), static_cast<float>(value)).ptr;
  double decimal = value;
  std::from_chars(text, end, decimal);
  return decimal;
}

std::vector<double> read_floats(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != GgmlType::f32) fail(file.path().string() + ": tensor '" + tensor.name + "'", "F32", ggml_type_info(tensor.type).name);
  const std::span<const uint8_t> bytes = file.bytes(tensor);
  std::vector<double> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    float value = 0;
    std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof(float));
    if (!(value > 0) || !std::isfinite(value)) fail(file.path().string() + ": tensor '" + tensor.name + "'", "positive numbers", str(value));
    values[i] = shortest(value);
  }
  return values;
}

/// The llama3 rope whose factors a file holds. Only ratios of its settings show in them: low_frequency is taken as 1.
/// False when no such rope gives these factors.
bool recover_llama3(const std::vector<double>& factors, int64_t dims, RopeSpec& rope) {
  const double largest = *std::max_element(factors.begin(), factors.end());
  if (largest <= 1) return false;
  ModelSpec probe;
  probe.head_size = dims;
  auto gives = [&](double high, double original) {
    probe.rope = rope;
    probe.rope.kind = "llama3";
    probe.rope.factor = largest;
    probe.rope.low_frequency = 1;
    probe.rope.high_frequency = high;
    probe.rope.original_context = static_cast<int64_t>(std::llround(original));
    const std::vector<float> made = gguf_rope_tensors(probe).front().values;
    for (size_t i = 0; i < made.size(); ++i)
      if (std::abs(static_cast<double>(made[i]) / factors[i] - 1) > 1e-5) return false;
    rope = probe.rope;
    return true;
  };
  for (int64_t original = 32; original <= (int64_t{1} << 20); original *= 2)
    if (gives(4, static_cast<double>(original))) return true;
  // Between the ends 1 / factor is linear in 1 / wavelength: two points give both settings.
  std::vector<std::pair<double, double>> points;
  for (size_t i = 0; i < factors.size(); ++i) {
    if (factors[i] <= 1 || factors[i] >= largest) continue;
    const double wave = 2 * std::acos(-1.0) * std::pow(rope.theta, 2 * static_cast<double>(i) / static_cast<double>(dims));
    points.emplace_back(1 / wave, (1 / factors[i] - 1 / largest) / (1 - 1 / largest));
  }
  if (points.size() < 2) return false;
  const auto [x0, y0] = points.front();
  const auto [x1, y1] = points.back();
  const double slope = (y1 - y0) / (x1 - x0), offset = y0 - slope * x0;
  return offset < 0 && slope > 0 && -1 / offset < 1e6 && slope < 1e9 && gives(1 - 1 / offset, slope * (-1 / offset));
}

RopeSpec read_rope_keys(const GgufFile& file, const std::string& arch, const ModelSpec& spec) {
  const GgufMetadata& meta = file.metadata();
  const std::string prefix = arch + ".rope.", name = file.path().string();
  RopeSpec rope;
  rope.theta = shortest(meta.number(prefix + "freq_base", 10000));
  check(rope.theta > 1, name + ": " + prefix + "freq_base", "a number above 1", str(rope.theta));
  const int64_t dims = meta.integer(prefix + "dimension_count", spec.head_size);
  check(dims > 0 && dims <= spec.head_size && dims % 2 == 0, name + ": " + prefix + "dimension_count", str("an even number up to ",
        spec.head_size), str(dims));
  check(dims == spec.head_size || arch == "phi3", name + ": " + prefix + "dimension_count", str(spec.head_size), str(dims));
  if (dims != spec.head_size) rope.dims = dims;
  const double factor = shortest(meta.number(prefix + "scaling.factor", meta.number(prefix + "scale_linear", 0)));
  const std::string kind = meta.text(prefix + "scaling.type", "linear");
  const double magnitude = shortest(meta.number(prefix + "scaling.attn_factor", meta.number(prefix + "scaling.yarn_attn_factor", 1)));
  const int64_t original = meta.integer(prefix + "scaling.original_context_length", spec.context);
  check(original > 0 && original <= 2147483647, name + ": " + prefix + "scaling.original_context_length", "a positive number", str(original));
  check(factor >= 0 && magnitude > 0, name + ": " + prefix + "scaling", "positive factors", str(factor, " and ", magnitude));
  const GgufTensor* long_tensor = file.find("rope_factors_long.weight");
  const GgufTensor* short_tensor = file.find("rope_factors_short.weight");
  const GgufTensor* freqs = file.find("rope_freqs.weight");
  if (kind == "yarn") {
    rope.kind = "yarn";
    rope.factor = factor > 0 ? factor : 1;
    rope.original_context = original;
    rope.beta_fast = shortest(meta.number(prefix + "scaling.yarn_beta_fast", 32));
    rope.beta_slow = shortest(meta.number(prefix + "scaling.yarn_beta_slow", 1));
    check(rope.beta_slow > 0 && rope.beta_fast >= rope.beta_slow, name + ": " + prefix + "scaling.yarn_beta_fast", "at least yarn_beta_slow",
          str(rope.beta_fast));
    const double given = magnitude * (rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1);
    if (magnitude != 1) rope.attention_factor = given;
  } else if (kind == "longrope" || (long_tensor && short_tensor)) {
    if (!long_tensor || !short_tensor) fail(name, "the tensors rope_factors_long.weight and rope_factors_short.weight", "one or none of them");
    rope.kind = "longrope";
    rope.original_context = original;
    rope.long_factor = read_floats(file, *long_tensor);
    rope.short_factor = read_floats(file, *short_tensor);
    const double stretch = static_cast<double>(spec.context) / static_cast<double>(original);
    const double own = stretch > 1 && original > 1 ? std::sqrt(1 + std::log(stretch) / std::log(static_cast<double>(original))) : 1;
    if (std::abs(magnitude / own - 1) > 1e-6) rope.attention_factor = magnitude;
    for (const std::vector<double>* list : {&rope.long_factor, &rope.short_factor})
      check(static_cast<int64_t>(list->size()) * 2 == dims, name + ": tensor 'rope_factors_*.weight'", str(dims / 2, " numbers"), str(list->size()));
  } else if (kind == "linear" || kind == "none") {
    if (kind == "linear" && factor > 0 && factor != 1) {
      rope.kind = "linear";
      rope.factor = factor;
    }
  } else {
    fail(name + ": " + prefix + "scaling.type", "none, linear, yarn or longrope", kind);
  }
  if (freqs) {
    check(rope.kind == "default", name + ": tensor 'rope_freqs.weight'", "no other rope scaling", rope.kind);
    const std::vector<double> factors = read_floats(file, *freqs);
    check(static_cast<int64_t>(factors.size()) * 2 == dims, name + ": tensor 'rope_freqs.weight'", str(dims / 2, " numbers"), str(factors.size()));
    const bool plain = std::all_of(factors.begin(), factors.end(), [](double f) { return f == 1; });
    if (!plain && !recover_llama3(factors, dims, rope)) {
      // Factors of another make: the same division at every length is longrope with equal lists.
      rope.kind = "longrope";
      rope.long_factor = rope.short_factor = factors;
      rope.original_context = spec.context;
      rope.attention_factor = 1;
    }
  }
  return rope;
}

void read_gguf_windows(const GgufFile& file, const std::string& arch, ModelSpec& spec) {
  const GgufMetadata& meta = file.metadata();
  const int64_t window = meta.integer(arch + ".attention.sliding_window", arch == "gemma2" ? 4096 : 0);
  check(window >= 0 && window <= 2147483647, file.path().string() + ": " + arch + ".attention.sliding_window", "a width", str(window));
  if (window == 0 || (arch == "gemma2" && window >= spec.context)) return;  // the writer's way of saying none
  const std::string key = arch + ".attention.sliding_window_pattern";
  const size_t count = spec.layers.size();
  std::vector<bool> slides(count, arch == "phi3");
  if (arch == "gemma2" || arch == "gemma3") {
    const GgufValue* value = meta.find(key);
    if (value && std::holds_alternative<std::vector<bool>>(*value)) {
      slides = std::get<std::vector<bool>>(*value);
      check(slides.size() == count, file.path().string() + ": " + key, str(count, " entries"), str(slides.size()));
    } else {
      const int64_t period = meta.integer(key, arch == "gemma2" ? 2 : 6);
      check(period >= 0 && period <= 65536, file.path().string() + ": " + key, "a period", str(period));
      for (size_t i = 0; i < count; ++i) slides[i] = period == 0 || (static_cast<int64_t>(i) + 1) % period != 0;
    }
  }
  for (size_t i = 0; i < count; ++i) {
    if (!slides[i]) continue;
    spec.layers[i].window = window;
    spec.layers[i].local_rope = arch == "gemma3";
  }
}

void read_gguf_sizes(const GgufFile& file, const std::string& arch, ModelSpec& spec) {
  const GgufMetadata& meta = file.metadata();
  const std::string name = file.path().string(), prefix = arch + ".";
  auto size = [&](const std::string& key, int64_t value, int64_t largest = 2147483647) {
    check(value > 0 && value <= largest, name + ": " + prefix + key, str("a number from 1 to ", largest), str(value));
    return value;
  };
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (!embedding) fail(name + ": tensor 'token_embd.weight'", "to be there", "nothing");
  spec.hidden = size("embedding_length", meta.integer(prefix + "embedding_length"));
  spec.context = size("context_length", meta.integer(prefix + "context_length"));
  check(embedding->shape.size() == 2 && embedding->columns() == spec.hidden, name + ": tensor 'token_embd.weight'", str("rows of ", spec.hidden),
        str(embedding->columns()));
  spec.vocab = embedding->rows();
  const int64_t count = size("block_count", meta.integer(prefix + "block_count"), 4096);
  const std::vector<int64_t> ffn = meta.per_layer(prefix + "feed_forward_length", count);
  const std::vector<int64_t> heads = meta.per_layer(prefix + "attention.head_count", count);
  const std::string kv_key = prefix + "attention.head_count_kv";
  const std::vector<int64_t> kv = meta.has(kv_key) ? meta.per_layer(kv_key, count) : heads;
  spec.layers.resize(static_cast<size_t>(count));
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.ffn = size("feed_forward_length", ffn[i]);
    layer.heads = size("attention.head_count", heads[i]);
    layer.kv_heads = size("attention.head_count_kv", kv[i]);
    check(layer.heads % layer.kv_heads == 0, name + ": " + kv_key, str("a divisor of ", layer.heads), str(layer.kv_heads));
  }
  spec.head_size = size("attention.key_length", meta.integer(prefix + "attention.key_length", spec.hidden / spec.layers.front().heads));
  const int64_t value_length = meta.integer(prefix + "attention.value_length", spec.head_size);
  check(value_length == spec.head_size, name + ": " + prefix + "attention.value_length", str(spec.head_size), str(value_length));
  check(spec.head_size % 2 == 0, name + ": " + prefix + "attention.key_length", "an even number", str(spec.head_size));
  check(meta.integer(prefix + "expert_count", 0) == 0, name + ": " + prefix + "expert_count", "0: mixtures of experts are not supported",
        str(meta.integer(prefix + "expert_count", 0)));
}

}  // namespace

ModelSpec spec_from_gguf(const GgufFile& file) {
  const GgufMetadata& meta = file.metadata();
  const std::string name = file.path().string(), arch = meta.text("general.architecture");
  const Family* family = nullptr;
  std::vector<std::string> known;
  for (const Family& f : families()) {
    known.push_back(f.gguf);
    if (!family && (arch == f.gguf || (arch == "deci" && std::string(f.gguf) == "llama"))) family = &f;
  }
  if (!family) fail(name + ": general.architecture", "one with a mapping", arch, nearest_hint(arch, known));
  ModelSpec spec;
  spec.family = family->model_type;
  read_gguf_sizes(file, arch, spec);
  spec.norm_eps = shortest(meta.number(arch + ".attention.layer_norm_rms_epsilon"));
  check(spec.norm_eps > 0, name + ": " + arch + ".attention.layer_norm_rms_epsilon", "a positive number", str(spec.norm_eps));
  spec.norm_offset = family->gemma;
  spec.post_norms = arch == "gemma2" || arch == "gemma3";
  spec.qk_norm = arch == "qwen3" || arch == "gemma3";
  spec.activation = family->gemma ? "gelu_tanh" : "silu";
  spec.qkv_bias = file.find("blk.0.attn_q.bias") != nullptr;
  spec.output_bias = file.find("blk.0.attn_output.bias") != nullptr;
  spec.mlp_bias = file.find("blk.0.ffn_down.bias") != nullptr;
  spec.tied = file.find("output.weight") == nullptr;
  spec.fused_projections = arch == "phi3";
  if (family->gemma) spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden));
  if (spec.post_norms) {
    const bool largest = spec.layers.size() == (arch == "gemma2" ? 46u : 62u);
    spec.attention_scale = 1 / std::sqrt(static_cast<double>(largest ? spec.hidden / spec.layers.front().heads : spec.head_size));
  }
  if (arch == "gemma2") spec.attention_softcap = shortest(meta.number(arch + ".attn_logit_softcapping", 50));
  if (arch == "gemma2" || arch == "gemma3") spec.logit_softcap = shortest(meta.number(arch + ".final_logit_softcapping", arch == "gemma2" ? 30 : 0));
  read_gguf_windows(file, arch, spec);
  spec.rope = read_rope_keys(file, arch, spec);
  if (arch == "gemma3") spec.local_rope.theta = shortest(meta.number(arch + ".rope.freq_base_swa", 10000));
  auto token = [&](const char* key) {
    const int64_t id = meta.integer(std::string("tokenizer.ggml.") + key, -1);
    return id >= 0 && id < spec.vocab ? id : int64_t{-1};
  };
  spec.bos = token("bos_token_id");
  spec.pad = token("padding_token_id");
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"})
    if (token(key) >= 0 && std::find(spec.eos.begin(), spec.eos.end(), token(key)) == spec.eos.end()) spec.eos.push_back(token(key));
  return spec;
}

}  // namespace attar
