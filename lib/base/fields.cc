#include "base/fields.h"

#include <charconv>
#include <cmath>

namespace attar {

namespace {

/// The parts of a decimal number as written, underscores between digits left out.
struct DecimalText {
  bool negative = false, integer = true;
  std::string whole, fraction;
  int64_t exponent = 0;
  std::string plain;  ///< without underscores and plus sign, as from_chars reads it
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// [-+]? digits [. digits] [e [-+]? digits]; digits may stand on one side of the point only.
bool split_decimal(const std::string& text, DecimalText& out) {
  if (text.size() > 400) return false;
  size_t at = 0;
  const auto digits = [&](std::string& to) {
    while (at < text.size()) {
      const bool joint = text[at] == '_' && at > 0 && is_digit(text[at - 1]) && at + 1 < text.size() && is_digit(text[at + 1]);
      if (!joint && !is_digit(text[at])) break;
      if (!joint) to += text[at];
      ++at;
    }
  };
  const auto sign = [&] { return at < text.size() && (text[at] == '-' || text[at] == '+') ? text[at++] == '-' : false; };
  out.negative = sign();
  digits(out.whole);
  if (at < text.size() && text[at] == '.') {
    ++at;
    out.integer = false;
    digits(out.fraction);
  }
  if (out.whole.empty() && out.fraction.empty()) return false;
  out.plain = (out.negative ? "-" : "") + (out.whole.empty() ? "0" : out.whole) + (out.fraction.empty() ? "" : "." + out.fraction);
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    out.integer = false;
    const bool down = sign();
    std::string power;
    digits(power);
    if (power.empty() || power.size() > 6) return false;
    out.exponent = std::stoll(power) * (down ? -1 : 1);
    out.plain += "e" + std::to_string(out.exponent);
  }
  return at == text.size();
}

/// Exact: 1e6 and 2.50e2 are whole, 2.5 is not, and nothing goes through floating point.
bool whole_number(const std::string& text, int64_t& value) {
  DecimalText parts;
  if (!split_decimal(text, parts)) return false;
  std::string digits = parts.whole + parts.fraction;
  int64_t point = static_cast<int64_t>(parts.whole.size()) + parts.exponent;
  if (digits.find_first_not_of('0') == std::string::npos) {
    value = 0;
    return true;
  }
  if (const int64_t zeros = static_cast<int64_t>(digits.find_first_not_of('0')); zeros > 0) {
    digits.erase(0, static_cast<size_t>(zeros));
    point -= zeros;
  }
  if (point <= 0 || point > 19) return false;
  if (const auto cut = static_cast<size_t>(point); cut < digits.size()) {
    if (digits.find_first_not_of('0', cut) != std::string::npos) return false;
    digits.resize(cut);
  } else {
    digits.append(cut - digits.size(), '0');
  }
  if (parts.negative) digits.insert(digits.begin(), '-');
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return problem == std::errc() && end == digits.data() + digits.size();
}

bool is_plain(const Node& node) { return node.is_scalar() && !node.quoted; }

}  // namespace

bool read_scalar(const Node& node, bool& value) {
  if (!is_plain(node) || (node.text != "true" && node.text != "false")) return false;
  value = node.text == "true";
  return true;
}

bool read_scalar(const Node& node, int64_t& value) {
  int64_t read = 0;
  if (!is_plain(node) || !whole_number(node.text, read)) return false;
  value = read;
  return true;
}

bool read_scalar(const Node& node, double& value) {
  DecimalText parts;
  if (!is_plain(node) || !split_decimal(node.text, parts)) return false;
  double read = 0;
  const auto [end, problem] = std::from_chars(parts.plain.data(), parts.plain.data() + parts.plain.size(), read);
  if (end != parts.plain.data() + parts.plain.size() || !std::isfinite(read)) return false;
  // Too small to hold is as good as zero; too large is refused.
  if (problem == std::errc::result_out_of_range && parts.exponent >= 0) return false;
  value = problem == std::errc() ? read : 0.0;
  return true;
}

bool read_scalar(const Node& node, std::string& value) {
  if (!node.is_scalar()) return false;
  value = node.text;
  return true;
}

void FieldReader::wrong(const Node& node, const std::string& path, const char* expected) const {
  const std::string received = node.is_null()   ? "nothing"
                               : node.is_list() ? "a list"
                               : node.is_map()  ? "a map"
                               : node.quoted    ? "'" + node.text + "' in quotes"
                                                : node.text;
  faults_.push_back({path + (node.place().empty() ? "" : " (" + node.place() + ")"), expected, received, ""});
}

void FieldReader::refuse_unknown() const {
  for (const auto& [key, node] : map_.entries) {
    bool taken = false;
    for (const std::string& name : known_) taken = taken || name == key;
    if (taken) continue;
    const std::string where = node.place().empty() ? "" : " (" + node.place() + ")";
    const std::string in = path_.empty() ? "" : " in " + path_;
    faults_.push_back({"unknown key '" + key + "'" + in + where, "", "", nearest_hint(key, known_)});
  }
}

SchemaWriter::SchemaWriter(Json& out) : out_(out) {
  out_ = Json{{"type", "object"}, {"properties", Json::object()}, {"additionalProperties", false}};
}

}  // namespace attar
