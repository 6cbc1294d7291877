#include "spec/presets.h"

#include <algorithm>
#include <optional>
#include <regex>

#include "base/check.h"
#include "spec/families.h"

namespace attar {
namespace {

using enum GgmlType;

/// One of llama-quantize's names: the type most matrices get, and its number in general.file_type.
struct Preset {
  const char* name;
  GgmlType base;
  uint32_t file_type;
};

const std::vector<Preset>& presets() {
  static const std::vector<Preset> kPresets = {
      {"f32", f32, 0},        {"f16", f16, 1},        {"bf16", bf16, 32},     {"q8_0", q8_0, 7},      {"q4_0", q4_0, 2},
      {"q4_1", q4_1, 3},      {"q5_0", q5_0, 8},      {"q5_1", q5_1, 9},      {"q2_k", q2_k, 10},     {"q3_k", q3_k, 12},
      {"q3_k_s", q3_k, 11},   {"q3_k_m", q3_k, 12},   {"q3_k_l", q3_k, 13},   {"q4_k", q4_k, 15},     {"q4_k_s", q4_k, 14},
      {"q4_k_m", q4_k, 15},   {"q5_k", q5_k, 17},     {"q5_k_s", q5_k, 16},   {"q5_k_m", q5_k, 17},   {"q6_k", q6_k, 18},
      {"iq4_nl", iq4_nl, 25}, {"mxfp4", mxfp4, 38},   {"tq1_0", tq1_0, 36},   {"tq2_0", tq2_0, 37},
  };
  return kPresets;
}

/// Position of a tensor among its kind, and the size of that kind: what the policy's rules ask for.
struct Counters {
  int64_t attn_v = 0, attn_v_total = 0, ffn_down = 0, ffn_down_total = 0;
};

bool more_bits(int64_t i, int64_t n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// The values' rows, alone or fused with queries' and keys'.
bool is_value(const std::string& name) { return contains(name, "attn_v.weight") || contains(name, "attn_qkv.weight"); }

std::optional<GgmlType> attn_v_type(const std::string& preset, const ModelSpec& spec, const Counters& at) {
  const bool shared = spec.layers.front().heads / std::max<int64_t>(spec.layers.front().kv_heads, 1) >= 4;
  std::optional<GgmlType> type;
  if (preset == "q2_k") type = shared ? q4_k : q3_k;
  if (preset == "q3_k_m") type = at.attn_v < 2 ? q5_k : q4_k;
  if (preset == "q3_k_l") type = q5_k;
  if (preset == "iq4_nl" && shared) type = q5_k;
  if ((preset == "q4_k_m" || preset == "q5_k_m") && more_bits(at.attn_v, at.attn_v_total)) type = q6_k;
  if (preset == "q4_k_s" && at.attn_v < 4) type = q5_k;
  return type;
}

std::optional<GgmlType> ffn_down_type(const std::string& preset, const Counters& at, bool has_imatrix) {
  const int64_t i = at.ffn_down, n = at.ffn_down_total;
  if (preset == "q2_k") return q3_k;
  if (preset == "q3_k_m") return i < n / 16 ? q5_k : q4_k;
  if (preset == "q3_k_l") return q5_k;
  if ((preset == "q4_k_m" || preset == "q5_k_m") && more_bits(i, n)) return q6_k;
  if (i >= n / 8) return std::nullopt;
  if (preset == "q4_k_s") return q5_k;
  if (preset == "iq4_nl" && !has_imatrix) return q5_k;
  if (preset == "q4_0" && has_imatrix) return q4_1;
  if (preset == "q5_0" && has_imatrix) return q5_1;
  return std::nullopt;
}

/// The type by the policy, before a row's width has its say.
GgmlType policy_type(const std::string& preset, GgmlType base, const ModelSpec& spec, const std::string& name, const Counters& at,
                     int64_t columns, bool has_imatrix) {
  if (name == "output.weight" || (spec.tied && name == "token_embd.weight")) {
    if (preset == "mxfp4" || columns % ggml_type_info(base).block != 0) return q8_0;
    return base == q8_0 ? q8_0 : q6_k;
  }
  if (name == "token_embd.weight") {
    if (preset == "mxfp4") return q8_0;
    return preset == "tq1_0" || preset == "tq2_0" ? q4_k : base;
  }
  if (is_value(name)) {
    GgmlType type = attn_v_type(preset, spec, at).value_or(base);
    // Models of Llama 2 70B's depth: several heads share these rows, a better type costs little.
    const bool of_70b = spec.layers.size() == 80 && spec.layers.front().heads != spec.layers.front().kv_heads;
    if (of_70b && (type == q3_k || type == q4_k)) type = q5_k;
    return type;
  }
  if (contains(name, "ffn_down")) return ffn_down_type(preset, at, has_imatrix).value_or(base);
  if (contains(name, "attn_output.weight")) {
    if (preset == "q2_k") return q3_k;
    if (preset == "q3_k_m") return q4_k;
    if (preset == "q3_k_l") return q5_k;
  }
  return base;
}

/// A type whose blocks fit rows of `columns`.
GgmlType fitting_type(GgmlType type, int64_t columns) {
  if (columns % ggml_type_info(type).block == 0) return type;
  GgmlType smaller = f16;
  if (type == q2_k || type == q3_k || type == tq1_0 || type == tq2_0) smaller = q4_0;
  if (type == q4_k) smaller = q5_0;
  if (type == q5_k) smaller = q5_1;
  if (type == q6_k) smaller = q8_0;
  return columns % ggml_type_info(smaller).block == 0 ? smaller : f16;
}

}  // namespace

PresetChoice preset_types(const std::string& preset, const ModelSpec& spec, const std::vector<PresetInput>& tensors, bool pure,
                          const std::vector<std::pair<std::string, GgmlType>>& overrides, bool has_imatrix) {
  const auto found = std::find_if(presets().begin(), presets().end(), [&](const Preset& p) { return preset == p.name; });
  if (found == presets().end()) fail("GGUF type", "a type or preset", preset, nearest_hint(preset, gguf_type_names()));
  check(!spec.layers.empty(), "model", "at least one layer", "none");
  const GgmlType base = found->base;
  const std::string name = preset == "q3_k" || preset == "q4_k" || preset == "q5_k" ? preset + "_m" : preset;
  std::vector<std::pair<std::regex, GgmlType>> patterns;
  for (const auto& [pattern, type] : overrides) {
    try {
      patterns.emplace_back(std::regex(pattern), type);
    } catch (const std::regex_error& error) {
      fail("tensor type's pattern", "a regular expression", pattern, error.what());
    }
  }
  Counters at;
  for (const PresetInput& tensor : tensors) {
    at.attn_v_total += is_value(tensor.gguf);
    at.ffn_down_total += contains(tensor.gguf, "ffn_down.weight");
  }
  PresetChoice choice;
  choice.file_type = pure ? gguf_file_type(base) : found->file_type;
  for (const PresetInput& tensor : tensors) {
    TensorType out{tensor.gguf, f32, ""};
    if (tensor.matrix) {
      const bool quantized = ggml_type_info(base).quantized;
      GgmlType wanted = quantized && !pure ? policy_type(name, base, spec, tensor.gguf, at, tensor.columns, has_imatrix) : base;
      const char* reason = "";
      for (const auto& [pattern, type] : patterns) {
        if (!std::regex_search(tensor.gguf, pattern)) continue;
        wanted = type;
        reason = "as asked; ";
        break;
      }
      out.type = fitting_type(wanted, tensor.columns);
      if (out.type != wanted)
        out.note = str(reason, "row of ", tensor.columns, " is no multiple of ", ggml_type_info(wanted).block, ": ", ggml_type_info(out.type).name);
      else if (*reason)
        out.note = "as asked";
      at.attn_v += is_value(tensor.gguf);
      at.ffn_down += contains(tensor.gguf, "ffn_down.weight");
    }
    choice.tensors.push_back(std::move(out));
  }
  return choice;
}

const std::vector<std::string>& gguf_type_names() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const Preset& p : presets()) names.push_back(p.name);
    return names;
  }();
  return kNames;
}

uint32_t gguf_file_type(GgmlType type) {
  switch (type) {
    case f32: return 0;
    case f16: return 1;
    case q4_0: return 2;
    case q4_1: return 3;
    case q8_0: return 7;
    case q5_0: return 8;
    case q5_1: return 9;
    case q2_k: return 10;
    case q3_k: return 11;
    case q4_k: return 14;
    case q5_k: return 16;
    case q6_k: return 18;
    case iq4_nl: return 25;
    case bf16: return 32;
    case tq1_0: return 36;
    case tq2_0: return 37;
    case mxfp4: return 38;
    default: fail("GGUF file type", "a type of weights", ggml_type_info(type).name);
  }
}

}  // namespace attar
