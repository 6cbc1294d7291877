#include "data/json_schema.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

const std::vector<std::string> kCheckedWords = {"type",    "properties", "required",  "additionalProperties", "items",    "enum",    "const",
                                                "minimum", "maximum",    "minLength", "maxLength",            "minItems", "maxItems"};
const std::vector<std::string> kDescribingWords = {"$schema", "$id",      "$comment",   "title", "description",
                                                   "default", "examples", "deprecated", "format"};
const std::vector<std::string> kTypeNames = {"object", "array", "string", "number", "integer", "boolean", "null"};

bool is_whole(const Json& value) {
  return value.is_number_integer() || (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
}

bool has_type(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "number") return value.is_number();
  if (type == "integer") return is_whole(value);
  if (type == "boolean") return value.is_boolean();
  return value.is_null();
}

std::string json_kind(const Json& value) {
  return value.is_object() ? "an object" : value.is_array() ? "a list" : value.is_string() ? "text" : value.is_number() ? "a number"
         : value.is_boolean() ? "true or false" : "null";
}

std::vector<std::string> types_of(const Json& schema) {
  if (!schema.contains("type")) return {};
  const Json& type = schema["type"];
  return type.is_string() ? std::vector<std::string>{type.get<std::string>()} : type.get<std::vector<std::string>>();
}

/// Refuses what problem_of would not look at.
void check_schema(const Json& schema, const std::string& place) {
  if (schema.is_boolean()) return;
  check(schema.is_object(), place, "a schema", json_kind(schema));
  const auto whole = [&](const char* key) {
    if (schema.contains(key) && !(is_whole(schema[key]) && schema[key].get<double>() >= 0))
      fail(place + ": " + key, "a whole number from 0", to_line(schema[key]));
  };
  for (const auto& [key, value] : schema.items()) {
    const bool known = std::find(kCheckedWords.begin(), kCheckedWords.end(), key) != kCheckedWords.end() ||
                       std::find(kDescribingWords.begin(), kDescribingWords.end(), key) != kDescribingWords.end();
    if (!known) fail(place + ": keyword '" + key + "'", "one that attar checks", "another", nearest_hint(key, kCheckedWords));
  }
  if (schema.contains("type")) {
    const Json& type = schema["type"];
    const Json list = type.is_array() ? type : Json::array({type});
    for (const Json& one : list)
      if (!one.is_string() || std::find(kTypeNames.begin(), kTypeNames.end(), one.get<std::string>()) == kTypeNames.end())
        fail(place + ": type", "object, array, string, number, integer, boolean or null", to_line(one));
  }
  for (const char* key : {"minLength", "maxLength", "minItems", "maxItems"}) whole(key);
  for (const char* key : {"minimum", "maximum"})
    if (schema.contains(key)) check(schema[key].is_number(), place + ": " + key, "a number", json_kind(schema[key]));
  if (schema.contains("enum"))
    check(schema["enum"].is_array() && !schema["enum"].empty(), place + ": enum", "a list of values", to_line(schema["enum"]));
  if (schema.contains("required")) {
    const Json& list = schema["required"];
    const bool right = list.is_array() && std::all_of(list.begin(), list.end(), [](const Json& name) { return name.is_string(); });
    check(right, place + ": required", "a list of names", to_line(list));
  }
  if (schema.contains("properties")) {
    check(schema["properties"].is_object(), place + ": properties", "a map", json_kind(schema["properties"]));
    for (const auto& [name, part] : schema["properties"].items()) check_schema(part, place + "." + name);
  }
  if (schema.contains("items")) check_schema(schema["items"], place + "[]");
  if (schema.contains("additionalProperties")) check_schema(schema["additionalProperties"], place + ".*");
}

int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; });
}

/// Equal whatever the order of an object's keys.
bool same_value(const Json& a, const Json& b) {
  return nlohmann::json::parse(a.dump(-1, ' ', false, Json::error_handler_t::replace)) ==
         nlohmann::json::parse(b.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string problem_of(const Json& schema, const Json& value, const std::string& place);

std::string object_problem(const Json& schema, const Json& value, const std::string& place) {
  const std::string dot = place.empty() ? "" : place + ".";
  if (schema.contains("required"))
    for (const Json& name : schema["required"])
      if (!value.contains(name.get<std::string>())) return dot + name.get<std::string>() + ": required, received nothing";
  for (const auto& [name, part] : value.items()) {
    const bool named = schema.contains("properties") && schema["properties"].contains(name);
    std::string found;
    if (named) found = problem_of(schema["properties"][name], part, dot + name);
    else if (schema.contains("additionalProperties")) found = problem_of(schema["additionalProperties"], part, dot + name);
    if (!found.empty()) return found;
  }
  return "";
}

std::string problem_of(const Json& schema, const Json& value, const std::string& place) {
  const std::string where = place.empty() ? "the object" : one_line(place);
  if (schema.is_boolean()) return schema.get<bool>() ? "" : where + ": not a property of the schema";
  const std::vector<std::string> types = types_of(schema);
  if (!types.empty() && std::none_of(types.begin(), types.end(), [&](const std::string& type) { return has_type(value, type); }))
    return where + ": expected " + (types.size() == 1 ? types[0] : "one of the types") + ", received " + json_kind(value);
  if (schema.contains("const") && !same_value(schema["const"], value)) return where + ": expected " + to_line(schema["const"]);
  if (schema.contains("enum")) {
    const Json& all = schema["enum"];
    if (std::none_of(all.begin(), all.end(), [&](const Json& one) { return same_value(one, value); })) return where + ": none of the enum's values";
  }
  if (value.is_number()) {
    const double number = value.get<double>();
    if (schema.contains("minimum") && number < schema["minimum"].get<double>()) return where + ": below its minimum";
    if (schema.contains("maximum") && number > schema["maximum"].get<double>()) return where + ": above its maximum";
  }
  if (value.is_string()) {
    const int64_t length = characters(value.get<std::string>());
    if (schema.contains("minLength") && length < schema["minLength"].get<int64_t>()) return where + ": shorter than minLength";
    if (schema.contains("maxLength") && length > schema["maxLength"].get<int64_t>()) return where + ": longer than maxLength";
  }
  if (value.is_array()) {
    const int64_t count = static_cast<int64_t>(value.size());
    if (schema.contains("minItems") && count < schema["minItems"].get<int64_t>()) return where + ": fewer than minItems";
    if (schema.contains("maxItems") && count > schema["maxItems"].get<int64_t>()) return where + ": more than maxItems";
    if (schema.contains("items"))
      for (size_t i = 0; i < value.size(); ++i)
        if (std::string found = problem_of(schema["items"], value[i], str(place, "[", i, "]")); !found.empty()) return found;
  }
  return value.is_object() ? object_problem(schema, value, place) : "";
}

}  // namespace

JsonSchema::JsonSchema(Json schema, const std::string& name) : schema_(std::move(schema)) {
  check(schema_.is_object(), name, "a JSON Schema: an object", json_kind(schema_));
  check_schema(schema_, name);
  const std::vector<std::string> types = types_of(schema_);
  check(types == std::vector<std::string>{"object"} && !properties().empty(), name, "a schema of type object with properties",
        types.empty() ? "no type" : "type " + types[0]);
}

JsonSchema JsonSchema::read(const fs::path& file) { return JsonSchema(read_json(file), file.string()); }

std::vector<std::string> JsonSchema::properties() const {
  std::vector<std::string> out;
  if (schema_.contains("properties"))
    for (const auto& [name, part] : schema_["properties"].items()) out.push_back(name);
  return out;
}

std::string JsonSchema::problem(const Json& value) const { return problem_of(schema_, value, ""); }

Json JsonSchema::in_order(const Json& object) const {
  Json out = Json::object();
  for (const std::string& name : properties())
    if (object.contains(name) && !object[name].is_null()) out[name] = object[name];
  for (const auto& [name, value] : object.items())
    if (!out.contains(name) && !value.is_null()) out[name] = value;
  return out;
}

}  // namespace attar
