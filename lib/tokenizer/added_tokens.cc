#include "tokenizer/added_tokens.h"

#include <utf8proc.h>

#include <charconv>

#include "base/check.h"

namespace attar {
namespace {

int32_t code_point_after(std::string_view text, size_t at, size_t& length) {
  utf8proc_int32_t point = -1;
  const auto taken = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at), static_cast<utf8proc_ssize_t>(text.size() - at),
      &point);
  length = taken > 0 ? static_cast<size_t>(taken) : 1;
  return taken > 0 ? point : 0xFFFD;
}

int32_t code_point_before(std::string_view text, size_t at, size_t& length) {
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  const int32_t point = code_point_after(text.substr(0, at), begin, length);
  length = at - begin;
  return point;
}

/// Unicode's White_Space property.
bool is_white_space(int32_t point) {
  return (point >= 9 && point <= 13) || point == 0x20 || point == 0x85 || point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) ||
         point == 0x2028 || point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

/// What a regular expression's \w takes.
bool is_word_character(int32_t point) {
  if (point == '_' || point == 0x200C || point == 0x200D) return true;
  switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default: return false;
  }
}

bool flag_of(const Json& token, const char* key, bool fallback) {
  return token.contains(key) && token.at(key).is_boolean() ? token.at(key).get<bool>() : fallback;
}

}  // namespace

AddedMatcher::AddedMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  nodes_.emplace_back();
  for (size_t i = 0; i < tokens_.size(); ++i) {
    int32_t at = 0;
    for (const char character : tokens_[i].content) {
      const auto found = nodes_[at].next.find(static_cast<uint8_t>(character));
      if (found != nodes_[at].next.end()) {
        at = found->second;
        continue;
      }
      const auto fresh = static_cast<int32_t>(nodes_.size());
      nodes_[at].next.emplace(static_cast<uint8_t>(character), fresh);
      nodes_.emplace_back();
      at = fresh;
    }
    if (at == 0) continue;  // an empty token is never met
    if (nodes_[at].token < 0) nodes_[at].token = static_cast<int32_t>(i);
    first_[static_cast<uint8_t>(tokens_[i].content[0])] = true;
  }
}

void AddedMatcher::split(std::string_view text, bool specials, const std::function<void(std::string_view, const AddedToken*)>& piece) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    if (!first_[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    int32_t node = 0, found = -1;
    size_t end = at;
    for (size_t i = at; i < text.size(); ++i) {
      const auto next = nodes_[node].next.find(static_cast<uint8_t>(text[i]));
      if (next == nodes_[node].next.end()) break;
      node = next->second;
      if (nodes_[node].token >= 0) {
        found = nodes_[node].token;
        end = i + 1;
      }
    }
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[found];
    size_t begin = at, length = 0;
    at = end;
    if (token.special && !specials) continue;
    if (token.single_word) {
      if (begin > 0 && is_word_character(code_point_before(text, begin, length))) continue;
      if (end < text.size() && is_word_character(code_point_after(text, end, length))) continue;
    }
    if (token.lstrip)
      while (begin > done && is_white_space(code_point_before(text, begin, length)) && begin - length >= done) begin -= length;
    if (token.rstrip)
      while (end < text.size() && is_white_space(code_point_after(text, end, length))) end += length;
    if (begin < done) continue;
    if (begin > done) piece(text.substr(done, begin - done), nullptr);
    piece(text.substr(begin, end - begin), &token);
    done = end;
    if (at < end) at = end;
  }
  if (done < text.size()) piece(text.substr(done), nullptr);
}

std::vector<AddedToken> parse_added_tokens(const Json& value, const std::string& name) {
  std::vector<AddedToken> out;
  const auto add = [&](const Json& token, int64_t id) {
    if (!token.is_object() || !token.contains("content") || !token.at("content").is_string())
      fail(name + ": added token", "an object with 'content'", to_line(token).substr(0, 80));
    if (id < 0 || id > INT32_MAX) fail(name + ": id of added token", "a number from 0", str(id));
    AddedToken added;
    added.id = static_cast<int32_t>(id);
    added.content = token.at("content").get<std::string>();
    added.special = flag_of(token, "special", false);
    added.normalized = flag_of(token, "normalized", !added.special);
    added.lstrip = flag_of(token, "lstrip", false);
    added.rstrip = flag_of(token, "rstrip", false);
    added.single_word = flag_of(token, "single_word", false);
    out.push_back(std::move(added));
  };
  if (value.is_array()) {
    for (const Json& token : value) add(token, get<int64_t>(token, "id", name + ": added token"));
  } else if (value.is_object()) {
    for (const auto& [key, token] : value.items()) {
      int64_t id = -1;
      const auto read = std::from_chars(key.data(), key.data() + key.size(), id);
      if (read.ec != std::errc() || read.ptr != key.data() + key.size()) fail(name + ": added_tokens_decoder", "token ids as keys", key);
      add(token, id);
    }
  }
  return out;
}

std::string special_text(const Json& config, const char* key) {
  if (!config.is_object() || !config.contains(key)) return "";
  const Json& value = config.at(key);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value.at("content").is_string()) return value.at("content").get<std::string>();
  return "";
}

}  // namespace attar
