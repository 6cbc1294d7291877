#pragma once
// Included by base/json.h only.
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace attar {

/// What a value must look like to be read as T; nlohmann would cut 1.5 to 1, take true for 1 and wrap -1 around.
template <class T>
const char* json_kind() {
  if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_integral_v<T>) {
    return std::is_signed_v<T> ? "a whole number" : "a whole number, 0 or more";
  } else if constexpr (std::is_floating_point_v<T>) {
    return "a number";
  } else {
    return std::is_same_v<T, std::string> ? "text" : "another type";
  }
}

/// Whether `value` is a T without loss. Whole floats (1e5) are integers; other types than scalars are left to nlohmann.
template <class T>
bool json_fits(const Json& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.is_boolean();
  } else if constexpr (std::is_integral_v<T>) {
    if (value.is_number_unsigned()) return std::in_range<T>(value.get<uint64_t>());
    if (value.is_number_integer()) return std::in_range<T>(value.get<int64_t>());
    if (!value.is_number_float()) return false;
    const double number = value.get<double>();
    return std::fabs(number) <= 0x1p53 && number == std::floor(number) && std::in_range<T>(static_cast<int64_t>(number));
  } else if constexpr (std::is_floating_point_v<T>) {
    return value.is_number();
  } else {
    return !std::is_same_v<T, std::string> || value.is_string();
  }
}

template <class T>
T get(const Json& object, const char* key, const std::string& name) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end()) fail(name + ": key '" + key + "'", "to be there", "nothing");
  try {
    if (json_fits<T>(*found)) return found->template get<T>();
  } catch (const nlohmann::json::exception&) {
    // Said below.
  }
  fail(name + ": key '" + key + "'", json_kind<T>(), to_line(*found).substr(0, 80));
}

}  // namespace attar
