#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/regex.h"

#include <pcre2.h>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

/// Match data and stack of one thread; they fit every pattern.
struct RegexScratch {
  pcre2_match_data* data = pcre2_match_data_create(64, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(64 * 1024, 64 * 1024 * 1024, nullptr);
  RegexScratch() {
    pcre2_set_match_limit(context, UINT32_MAX);
    pcre2_set_depth_limit(context, UINT32_MAX);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~RegexScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;
};

constexpr const char* kWordCharacter = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}";
constexpr const char* kWhiteSpace = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

/// Spells out what PCRE2 reads differently: \s and \S, \w and \W, and scripts, which it would extend.
std::string for_pcre2(const std::string& pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char character = pattern[i];
    if (character == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_class ? kWhiteSpace : str('[', kWhiteSpace, ']');
      } else if (next == 'S' && !in_class) {
        out += str("[^", kWhiteSpace, ']');
      } else if (next == 'w') {
        out += in_class ? kWordCharacter : str('[', kWordCharacter, ']');
      } else if (next == 'W' && !in_class) {
        out += str("[^", kWordCharacter, ']');
      } else if ((next == 'p' || next == 'P') && i + 1 < pattern.size() && pattern[i + 1] == '{') {
        const size_t end = pattern.find('}', i);
        std::string property = end == std::string::npos ? "" : pattern.substr(i + 2, end - i - 2);
        for (const char* script : {"Han", "Hiragana", "Katakana", "Hangul", "Latin", "Greek", "Cyrillic", "Arabic", "Thai"})
          if (property == script) property = "sc:" + property;
        if (end == std::string::npos) {
          out += character;
          out += next;
        } else {
          out += str(character, next, '{', property, '}');
          i = end;
        }
      } else {
        out += character;
        out += next;
      }
      continue;
    }
    if (in_class && character == ']') in_class = false;
    else if (!in_class && character == '[') {
      in_class = true;
      out += character;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
        out += "\\]";
        ++i;
      }
      continue;
    } else if (in_class && character == '[') {
      out += '\\';
    }
    out += character;
  }
  return out;
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(const std::string& pattern, const std::string& name) {
  if (pattern.size() > 65536) fail(name + ": pattern", "at most 65536 bytes", str(pattern.size()));
  if (pattern.find("&&") != std::string::npos) fail(name + ": pattern", "no set intersection (&&)", pattern.substr(0, 200));
  const std::string translated = for_pcre2(pattern);
  int error = 0;
  size_t offset = 0;
  auto code = std::make_shared<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY, &error, &offset, nullptr);
  if (!code->code) {
    char message[256] = {};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    fail(name + ": pattern", "a regular expression", pattern.substr(0, 200), message);
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

bool Regex::find(std::string_view text, size_t from, Match& match) const {
  static thread_local RegexScratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT)
    found = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch.data, scratch.context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) fail("splitting text", "a pattern that ends", str("PCRE2 error ", found));
  const size_t* bounds = pcre2_get_ovector_pointer(scratch.data);
  match = {bounds[0], bounds[1]};
  return true;
}

std::string Regex::escape(std::string_view literal) {
  std::string out;
  for (const char character : literal) {
    if (std::string_view("\\^$.|?*+()[]{}-&#").find(character) != std::string_view::npos) out += '\\';
    out += character;
  }
  return out;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    if (static_cast<uint8_t>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const size_t length = utf8_length(text, at);
    if (length > 0) {
      at += length;
      continue;
    }
    out += text.substr(done, at - done);
    out += "\xEF\xBF\xBD";
    done = ++at;
  }
  out += text.substr(done);
  return out;
}

}  // namespace attar
