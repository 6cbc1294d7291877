#include "tokenizer/pre_rules.h"

#include <map>

#include "base/check.h"

namespace attar {
namespace {

// The patterns as models publish them in tokenizer.json.
constexpr const char* kLlama3Published =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Published =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4oPublished =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekkenPublished =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The same as GGUF readers have them. [^\P{L}a-z] is a letter that is not a small one of ASCII.
constexpr const char* kContractions = R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))";
constexpr const char* kAfterDigits = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kAfterDigitsSlash = R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kCased1 = R"([^\r\n\p{L}\p{N}]?[^\P{L}a-z]*[^\P{L}A-Z]+)";
constexpr const char* kCased2 = R"([^\r\n\p{L}\p{N}]?[^\P{L}a-z]+[^\P{L}A-Z]*)";
constexpr const char* kReaderGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";
constexpr const char* kDeepseekSigns =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepseekHan = "[一-龥぀-ゟ゠-ヿ]+";

std::string three_digit_words(const char* digits, const char* after) { return str(kContractions, R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)", digits, after); }

const std::map<std::string, PreRule>& pre_families() {
  static const std::map<std::string, PreRule> kFamilies = [] {
    std::map<std::string, PreRule> out;
    const auto add = [&](const char* family, std::vector<std::string> patterns, bool ignore_merges = false, bool add_bos = false) {
      out.emplace(family, PreRule{family, std::move(patterns), ignore_merges, add_bos});
    };
    const std::string llama3 = three_digit_words(R"(\p{N}{1,3})", kAfterDigits);
    add("default", {R"([\p{P}\$\+<=>\^~\|]+)", kReaderGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"});
    add("gpt-2", {kReaderGpt2});
    add("smollm", {R"(\p{N})", kReaderGpt2});
    add("falcon", {R"([\p{P}\$\+<=>\^~\|`]+)", kReaderGpt2, "[0-9][0-9][0-9]"});
    add("llama-bpe", {llama3}, true, true);
    add("dbrx", {llama3});
    add("qwen2", {three_digit_words(R"(\p{N})", kAfterDigits)});
    add("gpt-4o", {str(kCased1, kContractions, "?|", kCased2, kContractions, R"(?|\p{N}{1,3})", kAfterDigitsSlash)});
    add("tekken", {str(kCased1, '|', kCased2, R"(|\p{N})", kAfterDigitsSlash)}, true, true);
    add("deepseek-v3", {R"(\p{N}{1,3})", kDeepseekHan, kDeepseekSigns});
    add("deepseek-coder", {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", R"(\p{N})"});
    return out;
  }();
  return kFamilies;
}

/// Other values of the same effect.
const std::map<std::string, std::string>& pre_aliases() {
  static const std::map<std::string, std::string> kAliases = {
      {"", "default"}, {"phi-2", "gpt-2"}, {"mpt", "gpt-2"}, {"olmo", "gpt-2"}, {"jais", "gpt-2"}, {"trillion", "gpt-2"}, {"roberta-bpe", "gpt-2"},
      {"jina-es", "gpt-2"}, {"jina-de", "gpt-2"}, {"gigachat", "gpt-2"}, {"granite-docling", "gpt-2"},
      {"starcoder", "smollm"}, {"refact", "smollm"}, {"command-r", "smollm"}, {"codeshell", "smollm"}, {"exaone", "smollm"}, {"minerva-7b", "smollm"},
      {"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"}, {"falcon3", "llama-bpe"}, {"falcon-h1", "llama-bpe"}, {"pixtral", "llama-bpe"},
      {"midm-2.0", "llama-bpe"}, {"lfm2", "llama-bpe"}, {"smaug-bpe", "dbrx"}, {"chatglm-bpe", "dbrx"}, {"glm4", "dbrx"},
      {"deepseek-r1-qwen", "qwen2"}, {"stablelm2", "qwen2"}, {"hunyuan", "qwen2"}, {"megrez", "qwen2"}, {"solar-open", "qwen2"},
      {"llama4", "gpt-4o"}, {"kanana2", "gpt-4o"}, {"hunyuan-dense", "deepseek-v3"}, {"joyai-llm", "deepseek-v3"}};
  return kAliases;
}

}  // namespace

const PreRule& pre_rule(const std::string& pre, const std::string& name) {
  const auto alias = pre_aliases().find(pre);
  const auto found = pre_families().find(alias == pre_aliases().end() ? pre : alias->second);
  if (found != pre_families().end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [family, rule] : pre_families()) known.push_back(family);
  for (const auto& [other, family] : pre_aliases())
    if (!other.empty()) known.push_back(other);
  fail(name + ": tokenizer.ggml.pre", "a pre-tokenizer that is known", pre, nearest_hint(pre, known));
}

std::optional<std::string> pre_of(const PreTokenizer& pre_tokenizer, bool ignore_merges, std::vector<std::string>& deviations) {
  std::vector<std::string> patterns;
  for (const auto& step : pre_tokenizer.steps()) {
    using Kind = PreTokenizer::Step::Kind;
    if (step.kind == Kind::spell || step.kind == Kind::unspell) continue;
    if (step.kind != Kind::split) return std::nullopt;
    // Removing what lies outside the matches is isolating them where a pattern covers all text, as the published ones do.
    const bool covers = step.invert && step.behavior == PreTokenizer::Behavior::removed;
    const bool isolates = !step.invert && step.behavior == PreTokenizer::Behavior::isolated;
    const bool digits = !step.invert && step.behavior == PreTokenizer::Behavior::contiguous;
    if (!covers && !isolates && !digits) return std::nullopt;
    patterns.push_back(digits ? step.pattern + "+" : step.pattern);
  }
  if (!pre_tokenizer.byte_level()) return std::nullopt;
  using Patterns = std::vector<std::string>;
  std::optional<std::string> out;
  if (patterns == Patterns{kGpt2Pattern}) out = "gpt-2";
  else if (patterns == Patterns{"\\p{N}", kGpt2Pattern}) out = "smollm";
  else if (patterns == Patterns{kLlama3Published}) out = ignore_merges ? "llama-bpe" : "dbrx";
  else if (patterns == Patterns{kQwen2Published}) out = "qwen2";
  else if (patterns == Patterns{kGpt4oPublished}) out = "gpt-4o";
  else if (patterns == Patterns{kTekkenPublished}) out = "tekken";
  else if (patterns == Patterns{"\\p{N}{1,3}", kDeepseekHan, kDeepseekSigns}) out = "deepseek-v3";
  else if (patterns == Patterns{"[\\p{P}!-\\/:-@\\[-`{-~]+", kGpt2Pattern, "\\p{N}+", "[0-9][0-9][0-9]"}) out = "falcon";
  else
    for (const auto& [family, rule] : pre_families())
      if (patterns == rule.patterns && ignore_merges == rule.ignore_merges) out = family;
  if (out && pre_rule(*out, "").ignore_merges != ignore_merges) return std::nullopt;
  if (out == "tekken" || out == "gpt-4o")
    deviations.push_back("pre-tokenizer " + *out + ": GGUF readers tell capitals from small letters in ASCII only");
  if (out == "falcon") deviations.push_back("pre-tokenizer falcon: GGUF readers leave digits with the space before them");
  return out;
}

}  // namespace attar
