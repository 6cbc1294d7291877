#include "tokenizer/charsmap.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <protozero/pbf_reader.hpp>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

// A unit of the trie (darts-clone's layout): 8 bits of label, the offset to the children, whether the first child is a leaf.
size_t unit_offset(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6); }

}  // namespace

void check_charsmap(std::string_view map, const std::string& name) {
  // Layout: u32 bytes of the trie, the trie (u32 units), replacement texts that end in zero bytes.
  uint32_t trie_bytes = 0;
  const auto broken = [&](const std::string& received) { fail(name + ": precompiled_charsmap", "a trie and its texts", received); };
  if (map.size() < 4) broken(str(map.size(), " bytes"));
  std::memcpy(&trie_bytes, map.data(), 4);
  if (trie_bytes % 1024 != 0 || trie_bytes == 0 || trie_bytes >= map.size() - 4) broken(str("a trie of ", trie_bytes, " bytes in ", map.size()));
  const std::string_view texts = map.substr(4 + trie_bytes);
  if (texts.back() != '\0') broken("texts without an end");
  std::vector<uint32_t> units(trie_bytes / 4);
  std::memcpy(units.data(), map.data() + 4, trie_bytes);
  for (size_t i = 0; i < units.size(); ++i) {
    const uint32_t unit = units[i];
    if (unit >> 31) continue;  // a leaf: checked where a node points to it
    const size_t child = i ^ unit_offset(unit);
    if ((child | 0xFF) >= units.size()) broken(str("node ", i, " that points outside"));
    if ((unit >> 8 & 1) != 0 && (units[child] & 0x7FFFFFFFu) >= texts.size()) broken(str("node ", i, " whose text lies outside"));
  }
}

std::string charsmap_of(const SentencePieceModel& model) {
  std::string map;
  protozero::pbf_reader reader(model.normalizer_spec);
  while (reader.next())
    if (reader.tag_and_type() == protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited)) map = reader.get_string();
    else reader.skip();
  return map;
}

Charsmap::Charsmap(std::string_view map, const std::string& name) {
  check_charsmap(map, name);
  uint32_t trie_bytes = 0;
  std::memcpy(&trie_bytes, map.data(), 4);
  units_.resize(trie_bytes / 4);
  std::memcpy(units_.data(), map.data() + 4, trie_bytes);
  texts_ = map.substr(4 + trie_bytes);
  begins_.resize(256);
  const size_t root = unit_offset(units_[0]);
  for (size_t byte = 0; byte < 256; ++byte) begins_[byte] = (units_[root ^ byte] & 0x800000FFu) == byte;
}

Charsmap::Match Charsmap::match(std::string_view text, size_t at, bool longest) const {
  Match out;
  if (empty()) return out;
  size_t node = unit_offset(units_[0]);
  for (size_t i = at; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    const uint32_t unit = units_[node];
    if ((unit & 0x800000FFu) != byte) break;
    node ^= unit_offset(unit);
    if ((unit >> 8 & 1) == 0) continue;
    out = {i + 1 - at, std::string_view(texts_.c_str() + (units_[node] & 0x7FFFFFFFu))};
    if (!longest) break;
  }
  return out;
}

std::string Charsmap::apply_by_grapheme(std::string_view text) const {
  constexpr size_t kLongGrapheme = 6;
  std::string out;
  out.reserve(text.size());
  const auto replaced = [&](std::string_view part) {
    const Match found = shortest(part, 0);
    if (found.size == 0) return false;
    out += found.replacement;
    return true;
  };
  const auto point_at = [&](size_t at) {
    utf8proc_int32_t point = 0;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at), static_cast<utf8proc_ssize_t>(text.size() - at), &point);
    return point;
  };
  for (size_t at = 0; at < text.size();) {
    size_t end = at + std::max<size_t>(utf8_length(text, at), 1);
    utf8proc_int32_t state = 0;
    for (utf8proc_int32_t left = point_at(at); end < text.size();) {
      const utf8proc_int32_t right = point_at(end);
      if (utf8proc_grapheme_break_stateful(left, right, &state)) break;
      end += std::max<size_t>(utf8_length(text, end), 1);
      left = right;
    }
    const std::string_view grapheme = text.substr(at, end - at);
    at = end;
    if (grapheme.size() < kLongGrapheme && replaced(grapheme)) continue;
    for (size_t i = 0; i < grapheme.size();) {
      const std::string_view character = grapheme.substr(i, std::max<size_t>(utf8_length(grapheme, i), 1));
      if (!replaced(character)) out += character;
      i += character.size();
    }
  }
  return out;
}

}  // namespace attar
