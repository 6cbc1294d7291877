#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "spec/families.h"
#include "spec/gguf_names.h"

namespace attar {
namespace {

/// What one architecture of llama.cpp reads and what it takes for granted.
struct GgufArchitecture {
  const char* name;
  bool windows;       ///< reads a sliding window and obeys it
  int64_t period;     ///< layer i attends to everything iff (i + 1) % period == 0, unless the file says otherwise
  bool rope_tensors;  ///< divides angles by rope_freqs / rope_factors_*
  bool qkv_bias, output_bias, mlp_bias;
  bool layered;       ///< takes widths and heads layer by layer; the others build every layer like the first
};

const GgufArchitecture& architecture_of(const ModelSpec& spec) {
  static const GgufArchitecture kArchitectures[] = {
      {"llama", false, 1, true, true, true, true, false},     {"qwen2", false, 1, false, true, false, false, false},
      {"qwen3", false, 1, false, false, false, false, false}, {"gemma", false, 1, false, false, false, false, false},
      {"gemma2", true, 2, false, false, false, false, false}, {"gemma3", true, 6, false, false, false, false, false},
      {"phi3", false, 1, true, false, false, false, false},   {"deci", false, 1, true, true, true, true, true},
  };
  const Family* family = find_family(spec.family);
  if (!family) fail("model family", "one with a GGUF architecture", spec.family, nearest_hint(spec.family, family_names()));
  // llama.cpp's "deci" is its "llama" with arrays of widths and heads: the same layers, the same rows of q and k.
  const std::string name = std::string(family->gguf) == "llama" && !spec.uniform() ? "deci" : family->gguf;
  for (const GgufArchitecture& a : kArchitectures)
    if (name == a.name) return a;
  fail("model family", "one with a GGUF architecture", spec.family);
}

/// The scale on scores that llama.cpp assumes: its largest Gemma 2 and 3, known by their layers, divide by another size.
double inferred_scale(const std::string& arch, const ModelSpec& spec) {
  const size_t layers = spec.layers.size();
  const bool largest = (arch == "gemma2" && layers == 46) || (arch == "gemma3" && layers == 62);
  const double size = largest ? static_cast<double>(spec.hidden / spec.layers.front().heads) : static_cast<double>(spec.head_size);
  return 1 / std::sqrt(size);
}

/// Whether yarn's frequencies are those of the ramp that llama.cpp v0.5.0 uses whatever the file's yarn_beta_* say.
bool has_usual_ramp(const ModelSpec& spec) {
  RopeSpec usual = spec.rope;
  usual.beta_fast = 32;
  usual.beta_slow = 1;
  usual.truncate = true;
  const int64_t dims = spec.rope_dims(spec.rope);
  return rope_table(usual, dims, 1, spec.context).inverse_frequency == rope_table(spec.rope, dims, 1, spec.context).inverse_frequency;
}

void refuse_unsayable(const GgufArchitecture& arch, const ModelSpec& spec) {
  const std::string what = std::string("GGUF architecture ") + arch.name;
  const bool gemma = std::string(arch.name).starts_with("gemma");
  std::vector<Fault> faults;
  auto demand = [&](bool held, const std::string& expected, const std::string& received) {
    if (!held) faults.push_back({what, expected, received, "no GGUF file that llama.cpp computes rightly can be made"});
  };
  demand(spec.activation == (gemma ? "gelu_tanh" : "silu"), gemma ? "activation gelu_tanh" : "activation silu", spec.activation);
  demand(std::abs(spec.score_scale() / inferred_scale(arch.name, spec) - 1) < 1e-6,
         str("attention scale ", inferred_scale(arch.name, spec), " (not read from the file)"), str(spec.score_scale()));
  const double embedding = gemma ? std::sqrt(static_cast<double>(spec.hidden)) : 1;
  demand(std::abs(spec.embedding_scale / embedding - 1) < 1e-6, str("embedding scale ", embedding, " (not read from the file)"),
         str(spec.embedding_scale));
  demand(arch.qkv_bias || !spec.qkv_bias, "no bias on q, k, v", "biases");
  demand(arch.output_bias || !spec.output_bias, "no bias on the attention's output", "a bias");
  demand(arch.mlp_bias || !spec.mlp_bias, "no bias in the feed-forward layers", "biases");
  const std::string name = arch.name;
  demand(arch.layered || spec.uniform(), "the same widths and heads in every layer (llama.cpp builds all like the first)", "layers that differ");
  demand(spec.qk_norm == (name == "qwen3" || name == "gemma3"), spec.qk_norm ? "no norm on q and k" : "a norm on q and k", "the opposite");
  demand(spec.post_norms == (name == "gemma2" || name == "gemma3"), spec.post_norms ? "no norms behind sublayers" : "norms behind sublayers",
         "the opposite");
  demand(spec.norm_offset == gemma, gemma ? "norms of 1 + w" : "norms of w", "the opposite");
  demand(!gemma || spec.tied || name == "gemma3", "a tied output matrix", "one of its own");
  demand(spec.attention_softcap == 0 || name == "gemma2", "no soft cap on scores", str(spec.attention_softcap));
  demand(spec.logit_softcap == 0 || name == "gemma2" || name == "gemma3", "no soft cap on logits", str(spec.logit_softcap));
  const RopeSpec& rope = spec.rope;
  demand((rope.kind != "llama3" && rope.kind != "longrope") || arch.rope_tensors, "rotary kind default, linear or yarn", rope.kind);
  demand(rope.kind != "yarn" || has_usual_ramp(spec), "yarn's ramp between 32 and 1 turns with whole ends (no other is read from the file)",
         str(rope.beta_fast, " and ", rope.beta_slow, rope.truncate ? "" : ", truncate false"));
  demand(spec.rope_dims(rope) == spec.head_size || name == "phi3", str("all ", spec.head_size, " dimensions rotated"), str(spec.rope_dims(rope)));
  if (!faults.empty()) throw Error(faults);
}

/// The context and window that the file may claim. Where the reader has no windows, a text within the narrowest one is right.
void write_window(const GgufArchitecture& arch, const ModelSpec& spec, int64_t& context, GgufMetadata& metadata, std::vector<std::string>& warnings) {
  const std::string prefix = std::string(arch.name) + ".";
  int64_t narrowest = 0, widest = 0;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.window > 0) narrowest = narrowest > 0 ? std::min(narrowest, layer.window) : layer.window;
    widest = std::max(widest, layer.window);
  }
  if (arch.windows) {
    const size_t count = spec.layers.size();
    int64_t period = 0;  // 0: every layer slides, as the file's key spells it
    bool found = false;
    for (int64_t p : {arch.period, int64_t{0}}) {
      if (found) break;
      found = true;
      period = p;
      for (size_t i = 0; i < count; ++i)
        found = found && (spec.layers[i].window > 0) == (p == 0 || (static_cast<int64_t>(i) + 1) % p != 0);
    }
    for (int64_t p = 1; !found && p <= static_cast<int64_t>(count); ++p) {
      found = true;
      period = p;
      for (size_t i = 0; i < count; ++i) found = found && (spec.layers[i].window > 0) == ((static_cast<int64_t>(i) + 1) % p != 0);
    }
    bool one = true;
    for (const LayerSpec& layer : spec.layers) one = one && (layer.window == 0 || layer.window == widest);
    check(found && one, std::string("GGUF architecture ") + arch.name, "one window on all layers but every n-th", "another pattern");
    if (widest == 0 && std::string(arch.name) == "gemma2") {
      // A window of 0 hides everything to this reader, and a model in which no layer slides aborts it: one that never ends instead.
      metadata.set(prefix + "attention.sliding_window", static_cast<uint32_t>(context));
      return;
    }
    metadata.set(prefix + "attention.sliding_window", static_cast<uint32_t>(widest));
    if (period != arch.period && widest > 0) metadata.set(prefix + "attention.sliding_window_pattern", static_cast<uint32_t>(period));
    return;
  }
  if (std::string(arch.name) == "phi3") metadata.set(prefix + "attention.sliding_window", static_cast<uint32_t>(widest));
  if (narrowest > 0 && narrowest < context) {
    warnings.push_back(str("GGUF architecture ", arch.name, " has no sliding window in llama.cpp: the context is capped at the window, ", narrowest,
                           " instead of ", context));
    context = narrowest;
  }
}

void write_rope(const GgufArchitecture& arch, const ModelSpec& spec, GgufMetadata& metadata, std::vector<std::string>& warnings) {
  const std::string prefix = std::string(arch.name) + ".rope.";
  const RopeSpec& rope = spec.rope;
  auto number = [&](const char* key, double value) { metadata.set(prefix + key, static_cast<float>(value)); };
  metadata.set(prefix + "dimension_count", static_cast<uint32_t>(spec.rope_dims(rope)));
  number("freq_base", rope.theta);
  if (std::string(arch.name) == "gemma3") {
    check(spec.local_rope.kind == "default", "GGUF architecture gemma3", "a local rotary embedding of kind default", spec.local_rope.kind);
    number("freq_base_swa", spec.local_rope.theta);
  }
  if (rope.kind == "linear" || rope.kind == "yarn") {
    metadata.set(prefix + "scaling.type", rope.kind);
    number("scaling.factor", rope.factor);
  }
  if (rope.kind == "yarn") {
    metadata.set(prefix + "scaling.original_context_length", static_cast<uint32_t>(rope.original_context));
    if (rope.beta_fast != 32) number("scaling.yarn_beta_fast", rope.beta_fast);
    if (rope.beta_slow != 1) number("scaling.yarn_beta_slow", rope.beta_slow);
    // llama.cpp multiplies this by its own 1 + 0.1 ln(factor).
    if (rope.attention_factor > 0) number("scaling.attn_factor", rope.attention_factor / (rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1));
  }
  if (rope.kind == "longrope") {
    metadata.set(prefix + "scaling.type", std::string("longrope"));
    metadata.set(prefix + "scaling.original_context_length", static_cast<uint32_t>(rope.original_context));
    number("scaling.attn_factor", rope_table(rope, spec.rope_dims(rope), spec.context, spec.context).magnitude);
    if (rope.long_factor != rope.short_factor && spec.context > rope.original_context)
      warnings.push_back(str("llama.cpp chooses longrope's factors by its context size (long above ", rope.original_context,
                             "), not by the length of the text"));
  }
}

}  // namespace

void gguf_architecture(const ModelSpec& spec, GgufMetadata& metadata, std::vector<std::string>& warnings) {
  check(!spec.layers.empty(), "model", "at least one layer", "none");
  const GgufArchitecture& arch = architecture_of(spec);
  refuse_unsayable(arch, spec);
  const std::string prefix = std::string(arch.name) + ".";
  auto whole = [&](const char* key, int64_t value) {
    check(value >= 0 && value <= 4294967295, prefix + key, "a number of 32 bits", str(value));
    metadata.set(prefix + key, static_cast<uint32_t>(value));
  };
  auto each = [&](const char* key, int64_t LayerSpec::*member) {
    if (std::all_of(spec.layers.begin(), spec.layers.end(), [&](const LayerSpec& l) { return l.*member == spec.layers.front().*member; }))
      return whole(key, spec.layers.front().*member);
    std::vector<int32_t> values;
    for (const LayerSpec& layer : spec.layers) values.push_back(static_cast<int32_t>(layer.*member));
    metadata.set(prefix + key, values);
  };
  metadata.set("general.architecture", std::string(arch.name));
  int64_t context = spec.context;
  whole("vocab_size", spec.vocab);
  whole("context_length", context);
  whole("embedding_length", spec.hidden);
  whole("block_count", static_cast<int64_t>(spec.layers.size()));
  each("feed_forward_length", &LayerSpec::ffn);
  each("attention.head_count", &LayerSpec::heads);
  each("attention.head_count_kv", &LayerSpec::kv_heads);
  whole("attention.key_length", spec.head_size);
  whole("attention.value_length", spec.head_size);
  metadata.set(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(spec.norm_eps));
  write_window(arch, spec, context, metadata, warnings);
  whole("context_length", context);
  if (spec.attention_softcap > 0) metadata.set(prefix + "attn_logit_softcapping", static_cast<float>(spec.attention_softcap));
  if (spec.logit_softcap > 0) metadata.set(prefix + "final_logit_softcapping", static_cast<float>(spec.logit_softcap));
  write_rope(arch, spec, metadata, warnings);
}

}  // namespace attar
