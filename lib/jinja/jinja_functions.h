#pragma once
#include <string>
#include <vector>

#include "jinja/jinja_value.h"

namespace attar {

/// What a filter, test or method was called with.
struct JinjaArguments {
  std::vector<JinjaValue> given;
  std::vector<std::pair<std::string, JinjaValue>> named;
  size_t limit = 0;   ///< bytes that a result may have
};

/// What a loop over `value` walks: items, a text's characters, a map's keys, nothing where it is not defined. Error for the rest.
JinjaValue::List jinja_items(const JinjaValue& value);
/// Python's "item in value".
bool jinja_contains(const JinjaValue& value, const JinjaValue& item);

/// Jinja's filters as chat templates use them: trim, tojson, length, count, first, last, join, default, upper, lower, capitalize, replace, string,
/// list, items, selectattr, rejectattr, map. Error naming another one, and for other arguments.
JinjaValue jinja_filter(const std::string& name, const JinjaValue& value, const JinjaArguments& arguments);
/// Jinja's tests: defined, undefined, none, string, mapping, iterable, sequence, number, integer, float, boolean, true, false, even, odd,
/// divisibleby, equalto, ne, in and their short names. Error naming another one.
bool jinja_test(const std::string& name, const JinjaValue& value, const std::vector<JinjaValue>& given);
/// Python's methods of texts (strip, split, startswith, ...) and of maps (get, items, keys, values). Error naming another one.
JinjaValue jinja_method(const JinjaValue& object, const std::string& name, const JinjaArguments& arguments);
/// Whether Python would give a method under that name: such an attribute is no key of a map.
bool is_python_method(const JinjaValue& object, const std::string& name);

}  // namespace attar
