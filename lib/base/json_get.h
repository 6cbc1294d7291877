#pragma once
// Included by base/json.h only.
#include "base/check.h"

namespace attar {

template <class T>
T get(const Json& object, const char* key, const std::string& name) {
  if (!object.is_object() || !object.contains(key)) fail(name + ": key '" + key + "'", "to be there", "nothing");
  try {
    return object.at(key).template get<T>();
  } catch (const nlohmann::json::exception&) {
    fail(name + ": key '" + key + "'", "another type", to_line(object.at(key)).substr(0, 80));
  }
}

}  // namespace attar
