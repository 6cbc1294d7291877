#include "base/utf8.h"

#include <cstdint>

namespace attar {

size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  if (at >= text.size()) return 0;
  const unsigned first = byte(at);
  const unsigned second = byte(at + 1);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4 || !follows(at + 1)) return 0;
  if (first < 0xE0) return 2;
  if (!follows(at + 2)) return 0;
  if (first < 0xF0) {
    // E0 80..9F would be a longer spelling than needed, ED A0..BF a surrogate.
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
    return 3;
  }
  if (!follows(at + 3) || (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
  return 4;
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

std::string one_line(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      ++at;
      continue;
    }
    const std::string_view sequence = text.substr(at, length);
    const unsigned char first = static_cast<unsigned char>(sequence[0]);
    if (first == '\n' || first == '\r' || first == '\t' || first == '\v' || first == '\f') {
      out += ' ';
    } else if (first < 0x20 || first == 0x7F) {
      out += '?';
    } else if (sequence == "\xC2\x85" || sequence == "\xE2\x80\xA8" || sequence == "\xE2\x80\xA9") {
      out += ' ';  // next line, line separator, paragraph separator
    } else if (first == 0xC2 && static_cast<unsigned char>(sequence[1]) < 0xA0) {
      out += '?';  // the second set of control characters
    } else {
      out += sequence;
    }
    at += length;
  }
  return out;
}

}  // namespace attar
