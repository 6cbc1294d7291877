#pragma once
// Included by base/fields.h only.
#include "base/json.h"

namespace attar {

/// Writes a struct as a JSON object, every key with its effective value.
class FieldWriter {
 public:
  explicit FieldWriter(Json& out) : out_(out) { out_ = Json::object(); }
  template <class T>
  void operator()(const char* name, T& value, const char*) { out_[name] = write(value); }

 private:
  template <class T>
  static Json write(T& value) {
    if constexpr (std::is_same_v<T, Node>) {
      return to_json(value);
    } else if constexpr (HasFields<T>) {
      Json inner;
      FieldWriter writer(inner);
      value.fields(writer);
      return inner;
    } else {
      return Json(value);
    }
  }
  template <class T>
  static Json write(std::optional<T>& value) { return value ? write(*value) : Json(); }
  template <class T>
  static Json write(std::vector<T>& value) {
    Json list = Json::array();
    for (auto&& item : value) {
      T copy = item;
      list.push_back(write(copy));
    }
    return list;
  }
  template <class T>
  static Json write(std::map<std::string, T>& value) {
    Json map = Json::object();
    for (auto& [key, item] : value) map[key] = write(item);
    return map;
  }
  Json& out_;
};

template <HasFields Config>
Json write_fields(const Config& config) {
  Json out;
  Config copy = config;
  FieldWriter writer(out);
  copy.fields(writer);
  return out;
}

/// The JSON Schema of a struct's map.
class SchemaWriter {
 public:
  explicit SchemaWriter(Json& out);
  template <class T>
  void operator()(const char* name, T& value, const char* help) {
    Json schema = of(value);
    schema["description"] = help;
    out_["properties"][name] = std::move(schema);
  }

 private:
  template <class T>
  static Json of(T& value) {
    if constexpr (std::is_same_v<T, Node>) {
      return Json::object();
    } else if constexpr (HasFields<T>) {
      Json inner;
      SchemaWriter writer(inner);
      value.fields(writer);
      return inner;
    } else {
      return Json{{"type", TypeName<T>::kSchema}, {"default", value}};
    }
  }
  template <class T>
  static Json of(std::optional<T>&) { T value{}; Json inner = of(value); inner.erase("default"); return inner; }
  template <class T>
  static Json of(std::vector<T>&) {
    T value{};
    Json item = of(value);
    if (item.is_object()) item.erase("default");
    return Json{{"anyOf", Json::array({Json{{"type", "array"}, {"items", item}}, item})}};
  }
  template <class T>
  static Json of(std::map<std::string, T>&) {
    T value{};
    Json item = of(value);
    item.erase("default");
    return Json{{"type", "object"}, {"additionalProperties", item}};
  }
  Json& out_;
};

template <HasFields Config>
Json schema_of() {
  Json out;
  Config config;
  SchemaWriter writer(out);
  config.fields(writer);
  return out;
}

}  // namespace attar

#include "base/fields_list.h"
