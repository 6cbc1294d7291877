#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace attar {

/// Keeps the order of keys, so that what is written equal is equal in bytes.
using Json = nlohmann::ordered_json;

/// Strict: refuses duplicate keys, nesting deeper than 100, invalid UTF-8, trailing text. `name` stands in the error.
Json parse_json(std::string_view text, const std::string& name);
Json read_json(const std::filesystem::path& file);
/// Pretty with two spaces and a final newline; written whole or not at all. NaN and infinity are written as null.
void write_json(const std::filesystem::path& file, const Json& value);
/// One line; invalid UTF-8 in strings is replaced.
std::string to_line(const Json& value);

/// value[key] as T, or Error naming file and key.
template <class T>
T get(const Json& object, const char* key, const std::string& name);

}  // namespace attar

#include "base/json_get.h"
