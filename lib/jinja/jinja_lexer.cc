#include "jinja/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/utf8.h"
#include "jinja/jinja_value.h"

namespace attar {
namespace {

using WordKind = JinjaToken::Kind;

bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 63));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 63));
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  }
}

std::string unix_lines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] == '\r') {
      out += '\n';
      if (at + 1 < source.size() && source[at + 1] == '\n') ++at;
    } else {
      out += source[at];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class JinjaLexer {
 public:
  explicit JinjaLexer(std::string_view source) : source_(unix_lines(source)) {}

  std::vector<JinjaToken> all() {
    while (at_ < source_.size()) piece();
    put(WordKind::end);
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what, const std::string& expected, const std::string& received) const {
    fail(str("chat template, line ", line_, ": ", what), expected, received);
  }

  void put(WordKind kind, std::string text = "", int64_t integer = 0) { out_.push_back({kind, std::move(text), integer, line_}); }

  void advance(size_t to) {
    line_ += std::count(source_.begin() + static_cast<int64_t>(at_), source_.begin() + static_cast<int64_t>(to), '\n');
    at_ = to;
  }

  /// Text up to the next tag, then the tag.
  void piece() {
    size_t begin = at_;
    for (;; ++begin) {
      begin = source_.find('{', begin);
      if (begin == std::string::npos || begin + 1 >= source_.size()) {
        put(WordKind::data, source_.substr(at_));
        advance(source_.size());
        return;
      }
      const char next = source_[begin + 1];
      if (next == '{' || next == '%' || next == '#') break;
    }
    const char kind = source_[begin + 1];
    const char sign = begin + 2 < source_.size() ? source_[begin + 2] : '\0';
    const bool plus = sign == '+' && kind != '{';
    std::string_view data = std::string_view(source_).substr(at_, begin - at_);
    if (sign == '-') {
      data = python_strip(data, false, true);
    } else if (kind != '{' && !plus) {
      const size_t from = data.rfind('\n') == std::string_view::npos ? 0 : data.rfind('\n') + 1;
      if ((from > 0 || at_line_start_) && python_strip(data.substr(from), true, false).empty()) data = data.substr(0, from);
    }
    if (!data.empty()) put(WordKind::data, std::string(data));
    advance(begin + 2 + (sign == '-' || plus ? 1 : 0));
    if (kind == '#') return comment();
    put(kind == '{' ? WordKind::output_begin : WordKind::block_begin);
    words(kind == '{' ? '}' : '%');
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) refuse("{#", "#} after it", "the template's end");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    after_tag(end + 2, sign, true);
  }

  /// What follows a tag's end: "-" drops whitespace, a block or comment one newline.
  void after_tag(size_t end, char sign, bool trims) {
    size_t to = end;
    if (sign == '-') {
      while (const size_t length = space_at(source_, to)) to += length;
    } else if (trims && sign != '+' && to < source_.size() && source_[to] == '\n') {
      ++to;
    }
    advance(to);
    at_line_start_ = source_[to - 1] == '\n';
  }

  /// Words of a tag until its end, "}}" (closing '}') or "%}" (closing '%').
  void words(char closing) {
    std::string open;
    for (;;) {
      while (at_ < source_.size() && space_at(source_, at_)) advance(at_ + space_at(source_, at_));
      if (at_ >= source_.size()) refuse(closing == '%' ? "{%" : "{{", closing == '%' ? "%} after it" : "}} after it", "the template's end");
      if (open.empty()) {
        const bool signed_end = source_[at_] == '-' || (source_[at_] == '+' && closing == '%');
        const size_t end = at_ + (signed_end ? 1 : 0);
        if (end + 1 < source_.size() && source_[end] == closing && source_[end + 1] == '}') {
          put(closing == '%' ? WordKind::block_end : WordKind::output_end);
          return after_tag(end + 2, signed_end ? source_[at_] : '\0', closing == '%');
        }
      }
      word(open);
    }
  }

  void word(std::string& open) {
    const char c = source_[at_];
    if (starts_name(c)) {
      size_t end = at_;
      while (end < source_.size() && (starts_name(source_[end]) || is_digit(source_[end]))) ++end;
      put(WordKind::name, source_.substr(at_, end - at_));
      return advance(end);
    }
    if (is_digit(c)) return number();
    if (c == '\'' || c == '"') return text(c);
    static constexpr std::array<std::string_view, 30> kSigns = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(",
        ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view sign : kSigns) {
      if (sign.empty() || !std::string_view(source_).substr(at_).starts_with(sign)) continue;
      if (c == '(') open += ')';
      if (c == '[') open += ']';
      if (c == '{') open += '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty() || open.back() != c) refuse(std::string(1, c), open.empty() ? "an opening bracket before it" : open.substr(open.size() - 1),
            std::string(1, c));
        open.pop_back();
      }
      put(WordKind::sign, std::string(sign));
      return advance(at_ + sign.size());
    }
    refuse("a tag", "names, texts, numbers and signs", one_line(source_.substr(at_, std::max<size_t>(1, utf8_length(source_, at_)))));
  }

  void number() {
    size_t end = at_;
    int64_t value = 0;
    for (; end < source_.size() && is_digit(source_[end]); ++end) {
      if (end - at_ > 17) refuse("a number", "at most 18 digits", "more");
      value = value * 10 + (source_[end] - '0');
    }
    const bool fraction = end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1]);
    if (fraction || (end < source_.size() && starts_name(source_[end])))
      refuse("a number", "a whole decimal one", source_.substr(at_, end + 2 - at_));
    if (source_[at_] == '0' && value != 0) refuse("a number", "no zero before it", source_.substr(at_, end - at_));
    put(WordKind::integer, "", value);
    advance(end);
  }

  uint32_t hex(size_t at, size_t digits) const {
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = at + i < source_.size() ? source_[at + i] : '\0';
      const bool small = c >= 'a' && c <= 'f', capital = c >= 'A' && c <= 'F';
      if (!is_digit(c) && !small && !capital) refuse("an escape", str(digits, " hexadecimal digits"), "others");
      value = value << 4 | static_cast<uint32_t>(is_digit(c) ? c - '0' : small ? c - 'a' + 10 : c - 'A' + 10);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) refuse("an escape", "a character", str(value));
    return value;
  }

  void text(char quote) {
    std::string out;
    size_t at = at_ + 1;
    for (;; ++at) {
      if (at >= source_.size()) refuse("a text", std::string(1, quote) + " at its end", "the template's end");
      const char c = source_[at];
      if (c == quote) break;
      if (c != '\\') {
        out += c;
        continue;
      }
      const char escaped = ++at < source_.size() ? source_[at] : '\0';
      static constexpr std::string_view kLetters = "ntrabfv\\'\"", kMeanings = "\n\t\r\a\b\f\v\\'\"";
      if (const size_t found = kLetters.find(escaped); escaped && found != std::string_view::npos) {
        out += kMeanings[found];
      } else if (escaped == '\n') {
        continue;  // a line that goes on
      } else if (escaped == 'x' || escaped == 'u' || escaped == 'U') {
        const size_t digits = escaped == 'x' ? 2 : escaped == 'u' ? 4 : 8;
        append_utf8(hex(at + 1, digits), out);
        at += digits;
      } else if (escaped == 'N' || is_digit(escaped) || escaped == '\0') {
        refuse("an escape", "\\n, \\t, \\xHH, \\uHHHH or another common one", std::string("\\") + escaped);
      } else {
        out += '\\';
        out += escaped;
      }
    }
    put(WordKind::text, std::move(out));
    advance(at + 1);
  }

  std::string source_;
  size_t at_ = 0;
  int64_t line_ = 1;
  bool at_line_start_ = true;
  std::vector<JinjaToken> out_;
};

}  // namespace

std::vector<JinjaToken> lex_jinja(std::string_view source) { return JinjaLexer(source).all(); }

}  // namespace attar
