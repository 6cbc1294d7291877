#include "tokenizer/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <map>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

bool is_ascii(std::string_view text) {
  for (const char character : text)
    if (static_cast<uint8_t>(character) >= 0x80) return false;
  return true;
}

std::string unicode_form(const std::string& text, utf8proc_option_t options) {
  if (is_ascii(text)) return text;
  utf8proc_uint8_t* mapped = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options));
  if (size < 0) fail("normalizing text", "valid UTF-8", utf8proc_errmsg(size));
  std::string out(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::max<size_t>(utf8_length(text, at), 1);
    utf8proc_int32_t point = 0;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at), static_cast<utf8proc_ssize_t>(size), &point);
    at += size;
    if (point == 0x130) {  // the one letter whose small form is two characters
      out += "i\xCC\x87";
      continue;
    }
    utf8proc_uint8_t bytes[4];
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(utf8proc_encode_char(utf8proc_tolower(point), bytes)));
  }
  return out;
}

std::string replace_literal(const std::string& text, const std::string& pattern, const std::string& content) {
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text.find(pattern, done)) != std::string::npos; done = at + pattern.size()) {
    out.append(text, done, at - done);
    out += content;
  }
  out.append(text, done);
  return out;
}

std::string replace_matches(const std::string& text, const Regex& regex, const std::string& content) {
  std::string out;
  size_t done = 0, from = 0;
  Regex::Match match{};
  while (from < text.size() && regex.find(text, from, match)) {
    if (match.begin == match.end) {
      if (match.begin >= text.size()) break;
      from = match.begin + std::max<size_t>(utf8_length(text, match.begin), 1);
      continue;
    }
    out.append(text, done, match.begin - done);
    out += content;
    done = from = match.end;
  }
  out.append(text, done);
  return out;
}

std::string strip_spaces(const std::string& text, bool left, bool right) {
  static const Regex kLeft("\\A\\s+", "strip"), kRight("\\s+\\z", "strip");
  std::string out = left ? replace_matches(text, kLeft, "") : text;
  return right ? replace_matches(out, kRight, "") : out;
}

/// Without combining marks.
std::string without_marks(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::max<size_t>(utf8_length(text, at), 1);
    utf8proc_int32_t point = 0;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at), static_cast<utf8proc_ssize_t>(size), &point);
    const auto category = utf8proc_category(point);
    if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC && category != UTF8PROC_CATEGORY_ME) out += text.substr(at, size);
    at += size;
  }
  return out;
}

std::string from_base64(const std::string& text, const std::string& name) {
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char character : text) {
    const int value = character >= 'A' && character <= 'Z'   ? character - 'A'
                      : character >= 'a' && character <= 'z' ? character - 'a' + 26
                      : character >= '0' && character <= '9' ? character - '0' + 52
                      : character == '+'                     ? 62
                      : character == '/'                     ? 63
                                                             : -1;
    if (character == '=') break;
    if (value < 0) fail(name, "base64", str("character '", character, "'"));
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out += static_cast<char>(bits >> held & 0xFF);
  }
  return out;
}

}  // namespace

void Normalizer::add(const Json& json, const std::string& name, int depth) {
  const std::string type = get<std::string>(json, "type", name);
  const std::string place = name + " " + type;
  if (depth > 8) fail(place, "sequences at most 8 deep");
  static const std::map<std::string, Step::Kind> kForms = {
      {"NFC", Step::Kind::nfc}, {"NFD", Step::Kind::nfd}, {"NFKC", Step::Kind::nfkc}, {"NFKD", Step::Kind::nfkd}, {"Lowercase",
          Step::Kind::lowercase}};
  if (const auto form = kForms.find(type); form != kForms.end()) {
    steps_.push_back({.kind = form->second});
  } else if (type == "Sequence") {
    if (json.contains("normalizers"))
      for (const Json& part : json.at("normalizers")) add(part, name, depth + 1);
  } else if (type == "Prepend") {
    steps_.push_back({.kind = Step::Kind::prepend, .content = get<std::string>(json, "prepend", place)});
  } else if (type == "Replace") {
    Step step{.kind = Step::Kind::replace, .content = get<std::string>(json, "content", place)};
    const Json& pattern = json.contains("pattern") ? json.at("pattern") : Json();
    if (pattern.is_object() && pattern.contains("Regex")) {
      step.pattern = get<std::string>(pattern, "Regex", place);
      step.regex.emplace_back(step.pattern, place);
    } else {
      step.pattern = get<std::string>(pattern, "String", place);
      if (step.pattern.empty()) fail(place + ": pattern", "a text", "nothing");
    }
    steps_.push_back(std::move(step));
  } else if (type == "Strip") {
    Step step{.kind = Step::Kind::strip};
    step.left = !json.contains("strip_left") || json.at("strip_left") == true;
    step.right = !json.contains("strip_right") || json.at("strip_right") == true;
    steps_.push_back(std::move(step));
  } else if (type == "StripAccents") {
    steps_.push_back({.kind = Step::Kind::strip_accents});
  } else if (type == "Precompiled") {
    Step step{.kind = Step::Kind::precompiled};
    const std::string map = from_base64(get<std::string>(json, "precompiled_charsmap", place), place + ": precompiled_charsmap");
    if (map.empty()) return;
    step.map = std::make_shared<const Charsmap>(map, place);
    steps_.push_back(std::move(step));
  } else {
    fail(name, "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, StripAccents, Precompiled or a Sequence of them", type);
  }
}

std::string Normalizer::apply(std::string_view text, bool* cut_front) const {
  std::string out(text);
  for (const Step& step : steps_) {
    if (cut_front && (step.kind == Step::Kind::strip_accents || (step.kind == Step::Kind::strip && step.left)) && !out.empty()) {
      const std::string first = out.substr(0, std::max<size_t>(utf8_length(out, 0), 1));
      if ((step.kind == Step::Kind::strip ? strip_spaces(first, true, false) : without_marks(first)).empty()) *cut_front = true;
    }
    switch (step.kind) {
      case Step::Kind::nfc: out = unicode_form(out, UTF8PROC_COMPOSE); break;
      case Step::Kind::nfd: out = unicode_form(out, UTF8PROC_DECOMPOSE); break;
      case Step::Kind::nfkc: out = unicode_form(out, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_COMPAT)); break;
      case Step::Kind::nfkd: out = unicode_form(out, static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT)); break;
      case Step::Kind::lowercase: out = lower_case(out); break;
      case Step::Kind::prepend:
        if (!out.empty()) out = step.content + out;
        break;
      case Step::Kind::replace:
        out = step.regex.empty() ? replace_literal(out, step.pattern, step.content) : replace_matches(out, step.regex[0], step.content);
        break;
      case Step::Kind::strip_accents: out = without_marks(out); break;
      case Step::Kind::precompiled: out = step.map->apply_by_grapheme(out); break;
      case Step::Kind::strip: out = strip_spaces(out, step.left, step.right); break;
    }
  }
  return out;
}

}  // namespace attar
