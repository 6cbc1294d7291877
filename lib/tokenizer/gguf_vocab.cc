#include "tokenizer/gguf_vocab.h"

#include <algorithm>
#include <unordered_set>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/byte_bpe.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/spm_bpe.h"

namespace attar {
namespace {

template <class T>
std::vector<T> array_of(const GgufMetadata& metadata, const std::string& key, const std::string& name) {
  const GgufValue* value = metadata.find(key);
  if (!value) return {};
  if (const auto* array = std::get_if<std::vector<T>>(value)) return *array;
  fail(name + ": " + key, "an array of another type");
}

std::optional<int32_t> id_in(const GgufMetadata& metadata, const std::string& key, size_t size, const std::string& name) {
  if (!metadata.has(key)) return std::nullopt;
  const int64_t id = metadata.integer(key);
  if (id == 0xFFFFFFFF || id == -1) return std::nullopt;
  if (id < 0 || static_cast<uint64_t>(id) >= size) fail(name + ": " + key, str("below the ", size, " tokens"), str(id));
  return static_cast<int32_t>(id);
}

std::optional<bool> flag_in(const GgufMetadata& metadata, const std::string& key) {
  if (!metadata.has(key)) return std::nullopt;
  return metadata.boolean(key, false);
}

std::vector<int32_t> types_of(const GgufMetadata& metadata, const std::string& name) {
  const std::string key = "tokenizer.ggml.token_type";
  const GgufValue* value = metadata.find(key);
  if (!value) return {};
  if (const auto* array = std::get_if<std::vector<uint32_t>>(value)) return {array->begin(), array->end()};
  return array_of<int32_t>(metadata, key, name);
}

}  // namespace

GgufVocabulary read_gguf_vocabulary(const GgufMetadata& metadata, const std::string& name) {
  const std::string base = "tokenizer.ggml.";
  if (!metadata.has(base + "model")) fail(name, "a GGUF file with a tokenizer", "no key tokenizer.ggml.model");
  GgufVocabulary out;
  out.model = metadata.text(base + "model");
  out.pre = metadata.text(base + "pre", "");
  out.tokens = array_of<std::string>(metadata, base + "tokens", name);
  out.scores = array_of<float>(metadata, base + "scores", name);
  out.types = types_of(metadata, name);
  out.merges = array_of<std::string>(metadata, base + "merges", name);
  // None at all is a vocabulary of single bytes; a missing key is a file that lost them.
  if (out.model == "gpt2" && !metadata.find(base + "merges")) fail(name + ": tokenizer.ggml.merges", "merge rules", "none");
  const size_t size = out.tokens.size();
  if (size == 0 || size > INT32_MAX) fail(name + ": tokenizer.ggml.tokens", "tokens", str(size));
  if (out.types.empty()) out.types.assign(size, GgufVocabulary::kNormal);
  if (out.types.size() != size) fail(name + ": tokenizer.ggml.token_type", str(size, " values, one per token"), str(out.types.size()));
  if (!out.scores.empty() && out.scores.size() != size) fail(name + ": tokenizer.ggml.scores", str(size, " values, one per token"),
      str(out.scores.size()));
  for (const float score : out.scores)
    if (score != score) fail(name + ": tokenizer.ggml.scores", "numbers", "NaN");
  out.bos = id_in(metadata, base + "bos_token_id", size, name);
  out.eos = id_in(metadata, base + "eos_token_id", size, name);
  out.unk = id_in(metadata, base + "unknown_token_id", size, name);
  out.pad = id_in(metadata, base + "padding_token_id", size, name);
  out.add_bos = flag_in(metadata, base + "add_bos_token");
  out.add_eos = flag_in(metadata, base + "add_eos_token");
  out.add_space_prefix = flag_in(metadata, base + "add_space_prefix");
  out.remove_extra_whitespaces = flag_in(metadata, base + "remove_extra_whitespaces");
  if (const GgufValue* map = metadata.find(base + "precompiled_charsmap")) {
    if (const auto* bytes = std::get_if<std::vector<uint8_t>>(map)) out.charsmap = *bytes;
    else if (const auto* signs = std::get_if<std::vector<int8_t>>(map)) out.charsmap.assign(signs->begin(), signs->end());
    else fail(name + ": tokenizer.ggml.precompiled_charsmap", "an array of bytes");
  }
  out.chat_template = metadata.text("tokenizer.chat_template", "");
  for (const std::string& other : array_of<std::string>(metadata, "tokenizer.chat_templates", name))
    if (const std::string text = metadata.text("tokenizer.chat_template." + other, ""); !text.empty()) out.chat_templates.emplace_back(other, text);
  out.general_name = metadata.text("general.name", "");
  // JSON files are written of these.
  const auto check_text = [&](const std::string& what, const std::string& text) {
    if (!is_utf8(text)) fail(name + ": " + what, "text in UTF-8", "'" + one_line(text.substr(0, 80)) + "'");
  };
  for (size_t id = 0; id < size; ++id)
    if (!is_utf8(out.tokens[id])) check_text(str("token ", id), out.tokens[id]);
  for (const std::string& merge : out.merges) check_text("tokenizer.ggml.merges", merge);
  check_text("tokenizer.chat_template", out.chat_template);
  for (const auto& [other, text] : out.chat_templates) check_text("tokenizer.chat_template", other), check_text("tokenizer.chat_template", text);
  return out;
}

void write_gguf_vocabulary(const GgufVocabulary& vocabulary, int64_t vocab, GgufMetadata& metadata) {
  const auto size = static_cast<int64_t>(vocabulary.tokens.size());
  if (size > vocab)
    fail("the tokenizer's vocabulary", str("at most the model's ", vocab, " embedding rows"), str(size, " tokens"), "it belongs to another model");
  std::vector<std::string> tokens = vocabulary.tokens;
  std::vector<float> scores = vocabulary.scores;
  std::vector<int32_t> types = vocabulary.types;
  for (int64_t id = size; id < vocab; ++id) {
    tokens.push_back(str("[PAD", id, "]"));
    types.push_back(GgufVocabulary::kUnused);
    if (!vocabulary.scores.empty()) scores.push_back(-10000.0f);
  }
  std::unordered_set<std::string_view> seen;
  for (const std::string& token : tokens)
    if (!seen.insert(token).second) fail("the vocabulary's token '" + token + "'", "to be there once: GGUF readers stop at a second one",
        "two of it");
  const std::string base = "tokenizer.ggml.";
  metadata.set(base + "model", vocabulary.model);
  metadata.set(base + "pre", vocabulary.pre);
  metadata.set(base + "tokens", std::move(tokens));
  if (!scores.empty()) metadata.set(base + "scores", std::move(scores));
  metadata.set(base + "token_type", std::move(types));
  if (vocabulary.model == "gpt2") metadata.set(base + "merges", vocabulary.merges);
  const auto set_id = [&](const char* key, std::optional<int32_t> id) {
    if (id) metadata.set(base + key, static_cast<uint32_t>(*id));
  };
  set_id("bos_token_id", vocabulary.bos);
  set_id("eos_token_id", vocabulary.eos);
  set_id("unknown_token_id", vocabulary.unk);
  set_id("padding_token_id", vocabulary.pad);
  const auto set_flag = [&](const char* key, std::optional<bool> flag) {
    if (flag) metadata.set(base + key, *flag);
  };
  set_flag("add_bos_token", vocabulary.add_bos);
  set_flag("add_eos_token", vocabulary.add_eos);
  set_flag("add_space_prefix", vocabulary.add_space_prefix);
  set_flag("remove_extra_whitespaces", vocabulary.remove_extra_whitespaces);
  if (!vocabulary.charsmap.empty()) metadata.set(base + "precompiled_charsmap", vocabulary.charsmap);
  if (!vocabulary.chat_template.empty()) metadata.set("tokenizer.chat_template", vocabulary.chat_template);
  // Keys hold letters and digits; a template whose name comes twice so is kept under its first.
  std::vector<std::string> names;
  for (const auto& [given, text] : vocabulary.chat_templates) {
    std::string other = given;
    for (char& c : other)
      if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) c = '_';
    if (text.empty() || other.empty() || std::find(names.begin(), names.end(), other) != names.end()) continue;
    metadata.set("tokenizer.chat_template." + other, text);
    names.push_back(std::move(other));
  }
  if (!names.empty()) metadata.set("tokenizer.chat_templates", std::move(names));
}

std::shared_ptr<const Tokenizer> gguf_tokenizer(GgufVocabulary vocabulary, const std::string& name) {
  if (vocabulary.model == "llama") return spm_tokenizer(std::move(vocabulary), name);
  if (vocabulary.model == "t5") return unigram_from_gguf(std::move(vocabulary), name);
  if (vocabulary.model == "gpt2") return byte_bpe_from_gguf(std::move(vocabulary), name);
  fail(name + ": tokenizer.ggml.model", "llama, t5 or gpt2", vocabulary.model);
}

}  // namespace attar
