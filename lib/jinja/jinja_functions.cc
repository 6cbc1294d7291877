#include "jinja/jinja_functions.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

using Is = JinjaValue::Kind;

[[noreturn]] void wrong(const std::string& what, const std::string& expected, const std::string& received) {
  fail("chat template: " + what, expected, received);
}

/// Arguments by position or name; absent ones are undefined. Error for others.
std::vector<JinjaValue> bind(const std::string& what, const JinjaArguments& arguments, const std::vector<std::string>& names) {
  if (arguments.given.size() > names.size()) wrong(what, str("at most ", names.size(), " arguments"), str(arguments.given.size()));
  std::vector<JinjaValue> out = arguments.given;
  out.resize(names.size());
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end() || static_cast<size_t>(found - names.begin()) < arguments.given.size()) wrong(what, "no argument of that name", name);
    out[static_cast<size_t>(found - names.begin())] = value;
  }
  return out;
}

const std::string& need_text(const std::string& what, const JinjaValue& value) {
  if (!value.is(Is::text)) wrong(what, "a text", jinja_kind(value));
  return value.text();
}

int64_t need_int(const std::string& what, const JinjaValue& value) {
  if (!value.is(Is::integer) && !value.is(Is::boolean)) wrong(what, "a whole number", jinja_kind(value));
  return value.integer;
}

/// ASCII only: what other letters become is a matter of Unicode's tables and the language.
std::string change_case(const std::string& what, const std::string& text, bool upper, size_t from) {
  std::string out = text;
  for (size_t i = 0; i < out.size(); ++i) {
    if (static_cast<uint8_t>(out[i]) >= 0x80) wrong(what, "letters of ASCII", "others");
    if (i < from) continue;
    if (upper && out[i] >= 'a' && out[i] <= 'z') out[i] = static_cast<char>(out[i] - 32);
    if (!upper && out[i] >= 'A' && out[i] <= 'Z') out[i] = static_cast<char>(out[i] + 32);
  }
  return out;
}

std::string capitalized(const std::string& what, const std::string& text) {
  std::string out = change_case(what, text, false, 0);
  if (!out.empty() && out[0] >= 'a' && out[0] <= 'z') out[0] = static_cast<char>(out[0] - 32);
  return out;
}

std::string replaced(const std::string& what, const std::string& text, const std::string& from, const std::string& to, size_t limit) {
  if (from.empty()) wrong(what, "a text to replace", "an empty one");
  std::string out;
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    out.append(text, at, found == std::string::npos ? std::string::npos : found - at);
    if (out.size() > limit) wrong(what, str("at most ", limit, " bytes"), "more");
    if (found == std::string::npos) return out;
    out += to;
    at = found + from.size();
  }
}

std::string joined(const std::string& what, const std::string& between, const JinjaValue& list, size_t limit, bool texts_only) {
  std::string out;
  bool first = true;
  for (const JinjaValue& item : jinja_items(list)) {
    if (!first) out += between;
    first = false;
    out += texts_only ? need_text(what, item) : jinja_print(item);
    if (out.size() > limit) wrong(what, str("at most ", limit, " bytes"), "more");
  }
  return out;
}

JinjaValue split(const std::string& text, const JinjaValue& separator, const JinjaValue& most) {
  int64_t left = most.is(Is::undefined) ? -1 : need_int("split", most);
  JinjaValue::List out;
  std::string_view rest = text;
  if (separator.is(Is::undefined) || separator.is(Is::none)) {
    for (rest = python_strip(rest, true, false); !rest.empty(); rest = python_strip(rest, true, false)) {
      size_t end = 0;
      while (end < rest.size() && !space_at(rest, end)) ++end;
      if (left-- == 0) end = rest.size();
      out.push_back(jinja_text(std::string(rest.substr(0, end))));
      rest.remove_prefix(end);
    }
    return jinja_list(std::move(out));
  }
  const std::string& by = need_text("split", separator);
  if (by.empty()) wrong("split", "a text to split by", "an empty one");
  for (size_t found; left != 0 && (found = rest.find(by)) != std::string_view::npos; --left) {
    out.push_back(jinja_text(std::string(rest.substr(0, found))));
    rest.remove_prefix(found + by.size());
  }
  out.push_back(jinja_text(std::string(rest)));
  return jinja_list(std::move(out));
}

JinjaValue length_of(const JinjaValue& value) {
  switch (value.kind) {
    case Is::undefined: return jinja_int(0);
    case Is::text: return jinja_int(characters(value.text()));
    case Is::list: return jinja_int(static_cast<int64_t>(value.list().size()));
    case Is::map: return jinja_int(static_cast<int64_t>(value.map().size()));
    default: wrong("length", "a text, list or map", jinja_kind(value));
  }
}

JinjaValue pairs_of(const JinjaValue& value) {
  JinjaValue::List out;
  if (value.is(Is::undefined)) return jinja_list({});
  if (!value.is(Is::map)) wrong("items", "a map", jinja_kind(value));
  for (const auto& [key, item] : value.map()) out.push_back(jinja_list({jinja_text(key), item}));
  return jinja_list(std::move(out));
}

/// "function.name" looked up in an item.
JinjaValue dotted(JinjaValue value, const std::string& path) {
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('.', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (value.is(Is::undefined)) wrong("attribute '" + part + "'", "something that has it", jinja_kind(value));
    if (part.empty() || (part[0] >= '0' && part[0] <= '9')) wrong("attribute '" + path + "'", "names with points between", path);
    const JinjaValue* found = value.find(part);
    value = found ? *found : jinja_undefined(part);
    at = end + 1;
  }
  return value;
}

JinjaValue select(const std::string& name, const JinjaValue& value, const JinjaArguments& arguments) {
  if (arguments.given.empty() || !arguments.named.empty()) wrong(name, "an attribute, and a test of it", "something else");
  const bool keep = name == "selectattr";
  JinjaValue::List out;
  for (const JinjaValue& item : jinja_items(value)) {
    const JinjaValue looked = dotted(item, need_text(name, arguments.given[0]));
    const bool held = arguments.given.size() == 1 ? jinja_truth(looked)
        : jinja_test(need_text(name, arguments.given[1]), looked, {arguments.given.begin() + 2, arguments.given.end()});
    if (held == keep) out.push_back(item);
  }
  return jinja_list(std::move(out));
}

JinjaValue end_of(const JinjaValue& value, bool first) {
  const JinjaValue::List items = jinja_items(value);
  if (items.empty()) return jinja_undefined(first ? "first of nothing" : "last of nothing");
  return first ? items.front() : items.back();
}

bool ends(const JinjaValue& object, const JinjaValue& with, bool start) {
  const std::string& text = object.text();
  if (with.is(Is::list))
    return std::any_of(with.list().begin(), with.list().end(), [&](const JinjaValue& one) { return ends(object, one, start); });
  const std::string& part = need_text(start ? "startswith" : "endswith", with);
  return start ? text.starts_with(part) : text.ends_with(part);
}

JinjaValue text_method(const JinjaValue& object, const std::string& name, const JinjaArguments& arguments) {
  const std::string& text = object.text();
  const auto none = [&] { bind(name, arguments, {}); };
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const JinjaValue of = bind(name, arguments, {"chars"})[0];
    const bool all = of.is(Is::undefined) || of.is(Is::none);
    const std::string* set = all ? nullptr : &need_text(name, of);
    return jinja_text(std::string(python_strip(text, name != "rstrip", name != "lstrip", set)));
  }
  if (name == "startswith" || name == "endswith") return jinja_bool(ends(object, bind(name, arguments, {"prefix"})[0], name == "startswith"));
  if (name == "split") {
    const auto bound = bind(name, arguments, {"sep", "maxsplit"});
    return split(text, bound[0], bound[1]);
  }
  if (name == "replace") {
    const auto bound = bind(name, arguments, {"old", "new"});
    return jinja_text(replaced(name, text, need_text(name, bound[0]), need_text(name, bound[1]), arguments.limit));
  }
  if (name == "join") return jinja_text(joined(name, text, bind(name, arguments, {"list"})[0], arguments.limit, true));
  if (name == "upper" || name == "lower") return none(), jinja_text(change_case(name, text, name == "upper", 0));
  if (name == "capitalize") return none(), jinja_text(capitalized(name, text));
  wrong("." + name + "()", "strip, lstrip, rstrip, startswith, endswith, split, replace, join, upper, lower or capitalize of a text", name);
}

}  // namespace

JinjaValue::List jinja_items(const JinjaValue& value) {
  switch (value.kind) {
    case Is::undefined: return {};
    case Is::list: return value.list();
    case Is::map: {
      JinjaValue::List out;
      for (const auto& [key, item] : value.map()) out.push_back(jinja_text(key));
      return out;
    }
    case Is::text: {
      JinjaValue::List out;
      for (size_t at = 0; at < value.text().size();) {
        const size_t length = std::max<size_t>(1, utf8_length(value.text(), at));
        out.push_back(jinja_text(value.text().substr(at, length)));
        at += length;
      }
      return out;
    }
    default: wrong("for", "a list, map or text", jinja_kind(value));
  }
}

bool jinja_contains(const JinjaValue& value, const JinjaValue& item) {
  switch (value.kind) {
    case Is::undefined: return false;
    case Is::text: return value.text().find(need_text("in", item)) != std::string::npos;
    case Is::map: return item.is(Is::text) && value.find(item.text());
    case Is::list: return std::any_of(value.list().begin(), value.list().end(), [&](const JinjaValue& one) { return jinja_equal(one, item); });
    default: wrong("in", "a list, map or text after it", jinja_kind(value));
  }
}

JinjaValue jinja_filter(const std::string& name, const JinjaValue& value, const JinjaArguments& arguments) {
  const auto none = [&] { bind(name, arguments, {}); };
  if (name == "trim") {
    const JinjaValue of = bind(name, arguments, {"chars"})[0];
    const bool all = of.is(Is::undefined) || of.is(Is::none);
    return jinja_text(std::string(python_strip(jinja_print(value), true, true, all ? nullptr : &need_text(name, of))));
  }
  if (name == "tojson") {
    const JinjaValue indent = bind(name, arguments, {"indent"})[0];
    const bool flat = indent.is(Is::undefined) || indent.is(Is::none);
    const int64_t width = flat ? -1 : need_int(name, indent);
    if (width < -1 || width > 16) wrong(name, "an indent of 0 to 16", str(width));
    return jinja_text(jinja_json(value, width, arguments.limit));
  }
  if (name == "length" || name == "count") return none(), length_of(value);
  if (name == "first" || name == "last") return none(), end_of(value, name == "first");
  if (name == "join") {
    const JinjaValue between = bind(name, arguments, {"d"})[0];
    return jinja_text(joined(name, between.is(Is::undefined) ? "" : need_text(name, between), value, arguments.limit, false));
  }
  if (name == "default" || name == "d") {
    const auto bound = bind(name, arguments, {"default_value", "boolean"});
    const bool replace = value.is(Is::undefined) || (jinja_truth(bound[1]) && !jinja_truth(value));
    return !replace ? value : bound[0].is(Is::undefined) ? jinja_text("") : bound[0];
  }
  if (name == "upper" || name == "lower") return none(), jinja_text(change_case(name, jinja_print(value), name == "upper", 0));
  if (name == "capitalize") return none(), jinja_text(capitalized(name, jinja_print(value)));
  if (name == "replace") {
    const auto bound = bind(name, arguments, {"old", "new"});
    return jinja_text(replaced(name, jinja_print(value), need_text(name, bound[0]), need_text(name, bound[1]), arguments.limit));
  }
  if (name == "string") return none(), jinja_text(jinja_print(value));
  if (name == "list") return none(), jinja_list(jinja_items(value));
  if (name == "items") return none(), pairs_of(value);
  if (name == "selectattr" || name == "rejectattr") return select(name, value, arguments);
  if (name == "map") {
    if (!arguments.given.empty() || arguments.named.size() != 1 || arguments.named[0].first != "attribute")
      wrong(name, "attribute=NAME", "something else");
    JinjaValue::List out;
    for (const JinjaValue& item : jinja_items(value)) out.push_back(dotted(item, need_text(name, arguments.named[0].second)));
    return jinja_list(std::move(out));
  }
  wrong("filter '" + name.substr(0, 60) + "'",
        "trim, tojson, length, first, last, join, default, upper, lower, capitalize, replace, string, list, items, "
        "selectattr, rejectattr or map: the filters that attar renders",
        name.substr(0, 60));
}

bool jinja_test(const std::string& name, const JinjaValue& value, const std::vector<JinjaValue>& given) {
  const auto needs = [&](size_t count) {
    if (given.size() != count) wrong("is " + name, str(count, " arguments"), str(given.size()));
  };
  if (name == "equalto" || name == "eq" || name == "ne" || name == "in" || name == "divisibleby") {
    needs(1);
    if (name == "in") return jinja_contains(given[0], value);
    if (name == "divisibleby") {
      const int64_t by = need_int(name, given[0]);
      if (by == 0) wrong(name, "another number", "0");
      return by == -1 || need_int(name, value) % by == 0;
    }
    return jinja_equal(value, given[0]) == (name != "ne");
  }
  needs(0);
  if (name == "defined") return !value.is(Is::undefined);
  if (name == "undefined") return value.is(Is::undefined);
  if (name == "none") return value.is(Is::none);
  if (name == "string") return value.is(Is::text);
  if (name == "mapping") return value.is(Is::map);
  if (name == "iterable" || name == "sequence")
    return value.is(Is::undefined) || value.is(Is::text) || value.is(Is::list) || value.is(Is::map);
  if (name == "number") return value.number();
  if (name == "integer") return value.is(Is::integer);
  if (name == "float") return value.is(Is::real);
  if (name == "boolean") return value.is(Is::boolean);
  if (name == "true") return value.is(Is::boolean) && value.integer == 1;
  if (name == "false") return value.is(Is::boolean) && value.integer == 0;
  if (name == "even") return need_int(name, value) % 2 == 0;
  if (name == "odd") return need_int(name, value) % 2 != 0;
  wrong("test '" + name.substr(0, 60) + "'", "defined, none, string, mapping, iterable, equalto, in or another common one", name.substr(0, 60));
}

JinjaValue jinja_method(const JinjaValue& object, const std::string& name, const JinjaArguments& arguments) {
  if (object.is(Is::text)) return text_method(object, name, arguments);
  if (object.is(Is::map)) {
    if (name == "get") {
      const auto bound = bind(name, arguments, {"key", "default"});
      const JinjaValue* found = object.find(need_text(name, bound[0]));
      return found ? *found : bound[1].is(Is::undefined) ? jinja_none() : bound[1];
    }
    if (name == "items") return bind(name, arguments, {}), pairs_of(object);
    if (name == "keys") return bind(name, arguments, {}), jinja_list(jinja_items(object));
    if (name == "values") {
      bind(name, arguments, {});
      JinjaValue::List out;
      for (const auto& [key, value] : object.map()) out.push_back(value);
      return jinja_list(std::move(out));
    }
  }
  wrong("." + name.substr(0, 60) + "()", "a method of a text, or get, items, keys, values of a map", "that of " + jinja_kind(object));
}

bool is_python_method(const JinjaValue& object, const std::string& name) {
  static const std::vector<std::string> kMap = {"clear", "copy",    "fromkeys",   "get",    "items", "keys",
                                                "pop",   "popitem", "setdefault", "update", "values"};
  static const std::vector<std::string> kList = {"append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"};
  static const std::vector<std::string> kText = {
      "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find", "format", "format_map", "index", "isalnum", "isalpha",
      "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "ljust",
      "lower", "lstrip", "maketrans", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit",
      "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "translate", "upper", "zfill"};
  const std::vector<std::string>& names = object.is(Is::map) ? kMap : object.is(Is::list) ? kList : kText;
  return (object.is(Is::map) || object.is(Is::list) || object.is(Is::text)) && std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace attar
