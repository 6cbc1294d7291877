#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace attar {

/// A value of a template, with Python's meaning of truth, equality and length. Texts are valid UTF-8 and counted in characters.
/// Lists and maps are shared and never change; a namespace is a number that only its renderer can look up, so that nothing owns itself.
struct JinjaValue {
  enum class Kind { undefined, none, boolean, integer, real, text, list, map, space };
  using List = std::vector<JinjaValue>;
  using Map = std::vector<std::pair<std::string, JinjaValue>>;
  Kind kind = Kind::undefined;
  int64_t integer = 0;   ///< boolean, integer, number of the namespace
  double real = 0;
  int depth = 0;         ///< of lists and maps inside each other
  std::shared_ptr<const std::string> shared_text;  ///< text; undefined: the name that was looked for
  std::shared_ptr<const List> shared_list;
  std::shared_ptr<const Map> shared_map;

  const std::string& text() const;
  const List& list() const { return *shared_list; }
  const Map& map() const { return *shared_map; }
  bool is(Kind other) const { return kind == other; }
  bool number() const { return kind == Kind::boolean || kind == Kind::integer || kind == Kind::real; }
  double as_real() const { return kind == Kind::real ? real : static_cast<double>(integer); }
  const JinjaValue* find(std::string_view key) const;  ///< of a map
};

JinjaValue jinja_undefined(std::string name);
JinjaValue jinja_none();
JinjaValue jinja_bool(bool value);
JinjaValue jinja_int(int64_t value);
JinjaValue jinja_text(std::string value);
/// Error where lists and maps lie deeper than 64 in each other.
JinjaValue jinja_list(JinjaValue::List items);
JinjaValue jinja_map(JinjaValue::Map items);
/// From JSON. Error for numbers outside int64 and for depth.
JinjaValue jinja_from(const Json& json);

/// "a text", "a list": for messages.
std::string jinja_kind(const JinjaValue& value);
bool jinja_truth(const JinjaValue& value);
/// Python's ==. Error for two lists or maps, which no chat template compares.
bool jinja_equal(const JinjaValue& a, const JinjaValue& b);
/// What {{ value }} writes. Error for numbers with a point, lists, maps and namespaces, which Python would write in its own notation.
std::string jinja_print(const JinjaValue& value);
/// json.dumps(value, ensure_ascii=False, indent=indent); indent -1: one line. Error past `limit` bytes, and for numbers with a point.
std::string jinja_json(const JinjaValue& value, int64_t indent, size_t limit);

/// Bytes of the whitespace character (as Python's str.isspace) that begins at `at`; 0 if there is none.
size_t space_at(std::string_view text, size_t at);
/// Python's strip, lstrip (right: false) and rstrip (left: false): of whitespace, or of any of the characters of `of`.
std::string_view python_strip(std::string_view text, bool left, bool right, const std::string* of = nullptr);
int64_t characters(std::string_view text);
/// Characters [begin, end) of valid UTF-8.
std::string_view character_range(std::string_view text, int64_t begin, int64_t end);

}  // namespace attar
