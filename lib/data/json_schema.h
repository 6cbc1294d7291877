#pragma once
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// The part of JSON Schema (draft 2020-12) that extraction tasks are written in: type, properties, required, additionalProperties, items, enum,
/// const, minimum, maximum, minLength, maxLength, minItems, maxItems; what only describes is passed over.
class JsonSchema {
 public:
  JsonSchema() = default;
  /// Error naming `name` and the keyword for any other keyword (its checks would be left out silently), and unless the schema is of an object.
  JsonSchema(Json schema, const std::string& name);
  static JsonSchema read(const fs::path& file);

  const Json& json() const { return schema_; }
  /// Names of the object's properties, in order.
  std::vector<std::string> properties() const;
  /// What of `value` does not follow the schema, in words ("items[2].price: expected a number, received text"); "" if it does.
  std::string problem(const Json& value) const;
  /// The object with the schema's properties first, in the schema's order, and without nulls: what a model learns to write.
  Json in_order(const Json& object) const;

 private:
  Json schema_ = Json::object();
};

}  // namespace attar
