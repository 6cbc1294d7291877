#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#include "base/utf8.h"
#include "base/yaml.h"

namespace attar {

namespace {

bool yaml_digits(std::string_view text, const char* allowed = "0123456789") {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

/// Integers by the core rules: decimal with a sign, 0o17, 0x1F. False if it is none or does not fit.
bool core_integer(std::string_view text, int64_t& value) {
  int base = 10;
  if (text.starts_with("0o") && yaml_digits(text.substr(2), "01234567")) {
    base = 8;
    text.remove_prefix(2);
  } else if (text.starts_with("0x") && yaml_digits(text.substr(2), "0123456789abcdefABCDEF")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (!yaml_digits(text)) return false;
  } else if (!yaml_digits(text.starts_with('-') ? text.substr(1) : text)) {
    return false;
  }
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return problem == std::errc() && end == text.data() + text.size();
}

/// Floats by the core rules, [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?, infinity and NaN.
bool core_float(std::string_view text, double& value) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text == ".inf" || text == ".Inf" || text == ".INF") {
    value = negative ? -HUGE_VAL : HUGE_VAL;
    return true;
  }
  if (!negative && (text == ".nan" || text == ".NaN" || text == ".NAN")) {
    value = std::nan("");
    return true;
  }
  const size_t mark = text.find_first_of("eE");
  const std::string_view number = text.substr(0, mark);
  const size_t point = number.find('.');
  const std::string_view whole = number.substr(0, point);
  const std::string_view fraction = point == std::string_view::npos ? std::string_view() : number.substr(point + 1);
  if ((!whole.empty() && !yaml_digits(whole)) || (!fraction.empty() && !yaml_digits(fraction)) || (whole.empty() && fraction.empty())) return false;
  if (mark != std::string_view::npos) {
    std::string_view power = text.substr(mark + 1);
    if (power.starts_with('-') || power.starts_with('+')) power.remove_prefix(1);
    if (!yaml_digits(power)) return false;
  }
  // from_chars leaves the value as it was when it is out of range; strtod gives infinity or nearly zero. The form was tested above.
  value = std::strtod(std::string(text).c_str(), nullptr);
  if (negative) value = -value;
  return true;
}

bool is_core_null(std::string_view text) { return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL"; }

/// Whether text written without quotes is read back as the same text.
bool safe_plain(const std::string& text) {
  if (is_core_null(text) || text == "<<" || text.size() > 1000 || !is_utf8(text)) return false;
  if (text.starts_with("---") || text.starts_with("...")) return false;
  const char first = text.front();
  if (std::string_view(" -?:,[]{}#&*!|>'\"%@`=").find(first) != std::string_view::npos) {
    // A minus sign may begin a number.
    if (first != '-' || text.size() < 2 || !(yaml_digits(text.substr(1, 1)) || text[1] == '.')) return false;
  }
  if (text.back() == ' ' || text.back() == ':') return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7F || c == '{' || c == '}' || c == '[' || c == ']' || c == ',') return false;
    if (c == ':' && text[i + 1] == ' ') return false;
    if (c == '#' && text[i - 1] == ' ') return false;
    if (c >= 0x80) return false;  // quotes cost nothing and line separators hide here
  }
  return true;
}

std::string quoted_yaml(const std::string& text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    const std::string_view part = std::string_view(text).substr(at, length ? length : 1);
    const unsigned char c = static_cast<unsigned char>(part[0]);
    char code[8];
    if (length == 0) {
      out += "\\uFFFD";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += text[at];
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c < 0x20 || c == 0x7F) {
      std::snprintf(code, sizeof code, "\\x%02x", c);
      out += code;
    } else if (c == 0xC2 && static_cast<unsigned char>(part[1]) < 0xA0) {
      std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned char>(part[1]));
      out += code;
    } else if (part == "\xE2\x80\xA8") {
      out += "\\u2028";
    } else if (part == "\xE2\x80\xA9") {
      out += "\\u2029";
    } else if (part == "\xEF\xBB\xBF") {
      out += "\\uFEFF";
    } else {
      out += part;
    }
    at += part.size();
  }
  return out + "\"";
}

std::string yaml_text(const std::string& text, bool quoted) { return !quoted && safe_plain(text) ? text : quoted_yaml(text); }

void write_yaml(const Node& node, size_t depth, std::string& out);

/// What stands after "key:" or "-": on the same line for scalars and empty ones, on the next lines for the rest.
void write_yaml_value(const Node& node, size_t depth, std::string& out) {
  if ((node.is_list() && !node.items.empty()) || (node.is_map() && !node.entries.empty())) {
    out += '\n';
    write_yaml(node, depth, out);
  } else {
    out += ' ';
    write_yaml(node, depth, out);
  }
}

void write_yaml(const Node& node, size_t depth, std::string& out) {
  const std::string indent(depth * 2, ' ');
  switch (node.kind) {
    case Node::Kind::null: out += "null\n"; break;
    case Node::Kind::scalar: out += yaml_text(node.text, node.quoted) + "\n"; break;
    case Node::Kind::list:
      if (node.items.empty()) out += "[]\n";
      for (const Node& item : node.items) {
        out += indent + "-";
        write_yaml_value(item, depth + 1, out);
      }
      break;
    case Node::Kind::map:
      if (node.entries.empty()) out += "{}\n";
      for (const auto& [key, item] : node.entries) {
        const std::string written = yaml_text(key, false);
        // A simple key ends within 1024 characters of its line; a longer one is written out of line.
        out += indent + (written.size() < 1000 ? written + ":" : "? " + written + "\n" + indent + ":");
        write_yaml_value(item, depth + 1, out);
      }
      break;
  }
}

}  // namespace

Json to_json(const Node& node) {
  if (node.is_list()) {
    Json list = Json::array();
    for (const Node& item : node.items) list.push_back(to_json(item));
    return list;
  }
  if (node.is_map()) {
    Json map = Json::object();
    for (const auto& [key, item] : node.entries) map[key] = to_json(item);
    return map;
  }
  if (node.is_null() || (!node.quoted && is_core_null(node.text))) return nullptr;
  if (node.quoted) return node.text;
  if (node.text == "true" || node.text == "True" || node.text == "TRUE") return true;
  if (node.text == "false" || node.text == "False" || node.text == "FALSE") return false;
  int64_t integer = 0;
  if (core_integer(node.text, integer)) return integer;
  double number = 0;
  if (core_float(node.text, number)) return number;
  return node.text;
}

Node from_json(const Json& value) {
  Node node;
  switch (value.type()) {
    case Json::value_t::array:
      node.kind = Node::Kind::list;
      for (const Json& item : value) node.items.push_back(from_json(item));
      return node;
    case Json::value_t::object:
      node.kind = Node::Kind::map;
      for (const auto& [key, item] : value.items()) node.entries.emplace_back(key, from_json(item));
      return node;
    case Json::value_t::string: return Node::scalar(value.get<std::string>(), true);
    case Json::value_t::number_float:
      if (const double number = value.get<double>(); !std::isfinite(number))
        return Node::scalar(std::isnan(number) ? ".nan" : number > 0 ? ".inf" : "-.inf");
      return Node::scalar(value.dump());
    case Json::value_t::boolean:
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned: return Node::scalar(value.dump());
    default: return node;
  }
}

std::string to_yaml(const Node& node) {
  std::string out;
  write_yaml(node, 0, out);
  return out;
}

}  // namespace attar
