#include "jinja/jinja_value.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

using JinjaKind = JinjaValue::Kind;
constexpr int kDeepest = 64;

JinjaValue of_kind(JinjaKind kind) {
  JinjaValue out;
  out.kind = kind;
  return out;
}

void check_depth(int depth) {
  if (depth > kDeepest) fail("chat template", str("lists and maps at most ", kDeepest, " deep"), "deeper ones");
}

void quote_json(const std::string& text, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char character : text) {
    switch (character) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (static_cast<uint8_t>(character) < 0x20) {
          out += "\\u00";
          out += kHex[character >> 4];
          out += kHex[character & 15];
        } else {
          out += character;
        }
    }
  }
  out += '"';
}

void dump(const JinjaValue& value, int64_t indent, int64_t level, size_t limit, std::string& out) {
  if (out.size() > limit) fail("chat template: tojson", str("at most ", limit, " bytes"), "more");
  const auto line = [&](int64_t depth) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent * depth), ' ');
  };
  const std::string_view comma = indent >= 0 ? "," : ", ";
  switch (value.kind) {
    case JinjaKind::none: out += "null"; return;
    case JinjaKind::boolean: out += value.integer ? "true" : "false"; return;
    case JinjaKind::integer: out += std::to_string(value.integer); return;
    case JinjaKind::text: quote_json(value.text(), out); return;
    case JinjaKind::list:
      out += '[';
      for (size_t i = 0; i < value.list().size(); ++i) {
        if (i) out += comma;
        line(level + 1);
        dump(value.list()[i], indent, level + 1, limit, out);
      }
      if (!value.list().empty()) line(level);
      out += ']';
      return;
    case JinjaKind::map:
      out += '{';
      for (size_t i = 0; i < value.map().size(); ++i) {
        if (i) out += comma;
        line(level + 1);
        quote_json(value.map()[i].first, out);
        out += ": ";
        dump(value.map()[i].second, indent, level + 1, limit, out);
      }
      if (!value.map().empty()) line(level);
      out += '}';
      return;
    default: fail("chat template: tojson", "text, whole numbers, true, false, none, lists and maps of them", jinja_kind(value));
  }
}

}  // namespace

const std::string& JinjaValue::text() const {
  static const std::string kNone;
  return shared_text ? *shared_text : kNone;
}

const JinjaValue* JinjaValue::find(std::string_view key) const {
  if (!shared_map) return nullptr;
  for (const auto& [name, value] : *shared_map)
    if (name == key) return &value;
  return nullptr;
}

JinjaValue jinja_undefined(std::string name) {
  JinjaValue out;
  out.shared_text = std::make_shared<const std::string>(std::move(name));
  return out;
}

JinjaValue jinja_none() { return of_kind(JinjaKind::none); }

JinjaValue jinja_bool(bool value) {
  JinjaValue out = of_kind(JinjaKind::boolean);
  out.integer = value;
  return out;
}

JinjaValue jinja_int(int64_t value) {
  JinjaValue out = of_kind(JinjaKind::integer);
  out.integer = value;
  return out;
}

JinjaValue jinja_text(std::string value) {
  JinjaValue out = of_kind(JinjaKind::text);
  out.shared_text = std::make_shared<const std::string>(std::move(value));
  return out;
}

JinjaValue jinja_list(JinjaValue::List items) {
  JinjaValue out = of_kind(JinjaKind::list);
  for (const JinjaValue& item : items) out.depth = std::max(out.depth, item.depth);
  check_depth(++out.depth);
  out.shared_list = std::make_shared<const JinjaValue::List>(std::move(items));
  return out;
}

JinjaValue jinja_map(JinjaValue::Map items) {
  JinjaValue out = of_kind(JinjaKind::map);
  for (const auto& [key, item] : items) out.depth = std::max(out.depth, item.depth);
  check_depth(++out.depth);
  out.shared_map = std::make_shared<const JinjaValue::Map>(std::move(items));
  return out;
}

JinjaValue jinja_from(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null: return jinja_none();
    case Json::value_t::boolean: return jinja_bool(json.get<bool>());
    case Json::value_t::string: return jinja_text(json.get<std::string>());
    case Json::value_t::number_integer: return jinja_int(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) fail("number " + json.dump(), "below 2^63", "more");
      return jinja_int(json.get<int64_t>());
    case Json::value_t::number_float: {
      JinjaValue out = of_kind(JinjaKind::real);
      out.real = json.get<double>();
      return out;
    }
    case Json::value_t::array: {
      JinjaValue::List items;
      for (const Json& item : json) items.push_back(jinja_from(item));
      return jinja_list(std::move(items));
    }
    case Json::value_t::object: {
      JinjaValue::Map items;
      for (const auto& [key, item] : json.items()) items.emplace_back(key, jinja_from(item));
      return jinja_map(std::move(items));
    }
    default: fail("JSON value", "text, numbers, lists and objects", json.type_name());
  }
}

std::string jinja_kind(const JinjaValue& value) {
  switch (value.kind) {
    case JinjaKind::undefined: return "'" + value.text().substr(0, 60) + "', which is not defined";
    case JinjaKind::none: return "none";
    case JinjaKind::boolean: return "a truth value";
    case JinjaKind::integer: return "a whole number";
    case JinjaKind::real: return "a number with a point";
    case JinjaKind::text: return "a text";
    case JinjaKind::list: return "a list";
    case JinjaKind::map: return "a map";
    case JinjaKind::space: return "a namespace";
  }
  return "a value";
}

bool jinja_truth(const JinjaValue& value) {
  switch (value.kind) {
    case JinjaKind::undefined:
    case JinjaKind::none: return false;
    case JinjaKind::boolean:
    case JinjaKind::integer: return value.integer != 0;
    case JinjaKind::real: return value.real != 0;
    case JinjaKind::text: return !value.text().empty();
    case JinjaKind::list: return !value.list().empty();
    case JinjaKind::map: return !value.map().empty();
    case JinjaKind::space: return true;
  }
  return false;
}

bool jinja_equal(const JinjaValue& a, const JinjaValue& b) {
  if (a.number() && b.number()) {
    if (a.kind == JinjaKind::real || b.kind == JinjaKind::real) return a.as_real() == b.as_real();
    return a.integer == b.integer;
  }
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case JinjaKind::undefined:
    case JinjaKind::none: return true;
    case JinjaKind::text: return a.text() == b.text();
    case JinjaKind::space: return a.integer == b.integer;
    default: fail("chat template: ==", "texts, numbers, truth values or none", "two of " + jinja_kind(a));
  }
}

std::string jinja_print(const JinjaValue& value) {
  switch (value.kind) {
    case JinjaKind::undefined: return "";
    case JinjaKind::none: return "None";
    case JinjaKind::boolean: return value.integer ? "True" : "False";
    case JinjaKind::integer: return std::to_string(value.integer);
    case JinjaKind::text: return value.text();
    default: fail("chat template: output", "a text, whole number or truth value", jinja_kind(value), "tojson writes lists and maps");
  }
}

std::string jinja_json(const JinjaValue& value, int64_t indent, size_t limit) {
  std::string out;
  dump(value, indent, 0, limit, out);
  return out;
}

size_t space_at(std::string_view text, size_t at) {
  if (at >= text.size()) return 0;
  const auto first = static_cast<uint8_t>(text[at]);
  if (first < 0x80) return (first >= 0x09 && first <= 0x0D) || (first >= 0x1C && first <= 0x20) ? 1 : 0;
  const std::string_view rest = text.substr(at);
  if (rest.starts_with("\xC2\x85") || rest.starts_with("\xC2\xA0")) return 2;
  if (rest.size() < 3) return 0;
  const uint32_t code =
      static_cast<uint32_t>(first) << 16 | static_cast<uint32_t>(static_cast<uint8_t>(rest[1])) << 8 | static_cast<uint8_t>(rest[2]);
  const bool wide = code == 0xE19A80 || (code >= 0xE28080 && code <= 0xE2808A) || code == 0xE280A8 || code == 0xE280A9 || code == 0xE280AF ||
      code == 0xE2819F || code == 0xE38080;
  return wide ? 3 : 0;
}

std::string_view python_strip(std::string_view text, bool left, bool right, const std::string* of) {
  const auto drops = [&](size_t at) -> size_t {
    if (!of) return space_at(text, at);
    const size_t length = utf8_length(text, at);
    return length && of->find(text.substr(at, length)) != std::string::npos ? length : 0;
  };
  while (left && !text.empty()) {
    const size_t length = drops(0);
    if (length == 0) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
    if (drops(at) == 0) break;
    text.remove_suffix(text.size() - at);
  }
  return text;
}

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<uint8_t>(byte) & 0xC0) != 0x80; });
}

std::string_view character_range(std::string_view text, int64_t begin, int64_t end) {
  size_t from = text.size(), to = text.size();
  int64_t number = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    if ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) continue;
    if (number == begin) from = at;
    if (number == end) {
      to = at;
      break;
    }
    ++number;
  }
  return from < to ? text.substr(from, to - from) : std::string_view();
}

}  // namespace attar
