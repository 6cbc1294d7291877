#pragma once
// The Fields pattern: a configuration struct names each key once, with its default and help, in
//   template <class Visitor> void fields(Visitor&& field) { field("steps", steps, "optimizer steps"); }
// and everything else comes from it: reading YAML, writing JSON, --help, command-line flags, the JSON Schema, the docs.
// Types of fields: bool, int64_t, double, std::string, std::optional of these, std::vector of them,
// std::map<std::string, double>, a struct with fields(), a vector of such structs, and Node (anything).
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "base/yaml.h"

namespace attar {

namespace fields_detail {
struct Probe {
  template <class... Args>
  void operator()(Args&&...) const {}
};
}  // namespace fields_detail

template <class T>
concept HasFields = requires(T& value) { value.fields(fields_detail::Probe{}); };

/// A scalar's text as T: false if it does not read as one.
bool read_scalar(const Node& node, bool& value);
bool read_scalar(const Node& node, int64_t& value);   ///< decimal; underscores and 1e6-like whole numbers allowed
bool read_scalar(const Node& node, double& value);
bool read_scalar(const Node& node, std::string& value);

template <class T> struct TypeName;
template <> struct TypeName<bool> { static constexpr const char* kWords = "true or false"; static constexpr const char* kSchema = "boolean"; };
template <> struct TypeName<int64_t> { static constexpr const char* kWords = "a whole number"; static constexpr const char* kSchema = "integer"; };
template <> struct TypeName<double> { static constexpr const char* kWords = "a number"; static constexpr const char* kSchema = "number"; };
template <> struct TypeName<std::string> { static constexpr const char* kWords = "text"; static constexpr const char* kSchema = "string"; };

/// Reads a map into a struct; collects every fault instead of stopping at the first.
class FieldReader {
 public:
  FieldReader(const Node& map, std::string path, std::vector<Fault>& faults) : map_(map), path_(std::move(path)), faults_(faults) {}

  template <class T>
  void operator()(const char* name, T& value, const char* /*help*/) {
    known_.push_back(name);
    if (const Node* node = map_.find(name)) read(*node, value, path_.empty() ? name : path_ + "." + name);
  }
  /// Call after all fields: every entry of the map that no field took is a fault with the nearest known key.
  void refuse_unknown() const;

 private:
  void wrong(const Node& node, const std::string& path, const char* expected) const;

  template <class T>
  void read(const Node& node, T& value, const std::string& path) {
    if constexpr (std::is_same_v<T, Node>) {
      value = node;
    } else if constexpr (HasFields<T>) {
      if (!node.is_map()) return wrong(node, path, "a map");
      FieldReader inner(node, path, faults_);
      value.fields(inner);
      inner.refuse_unknown();
    } else {
      if (!read_scalar(node, value)) wrong(node, path, TypeName<T>::kWords);
    }
  }
  template <class T>
  void read(const Node& node, std::optional<T>& value, const std::string& path) {
    if (node.is_null()) return value.reset();
    if (!value) value.emplace();
    read(node, *value, path);
  }
  /// A single value stands for a list of one.
  template <class T>
  void read(const Node& node, std::vector<T>& value, const std::string& path) {
    value.clear();
    if (node.is_null()) return;
    if (!node.is_list()) {
      value.emplace_back();
      return read(node, value.back(), path);
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      T item{};
      read(node.items[i], item, path + "[" + std::to_string(i) + "]");
      value.push_back(std::move(item));
    }
  }
  template <class T>
  void read(const Node& node, std::map<std::string, T>& value, const std::string& path) {
    if (!node.is_map()) return wrong(node, path, "a map");
    value.clear();
    for (const auto& [key, item] : node.entries) read(item, value[key], path + "." + key);
  }

  const Node& map_;
  std::string path_;
  std::vector<Fault>& faults_;
  std::vector<std::string> known_;
};

/// Fills `config` from a map, reporting into `faults`. `path` is the dotted place for messages.
template <HasFields Config>
void read_fields(Config& config, const Node& map, const std::string& path, std::vector<Fault>& faults) {
  if (map.is_null()) return;
  if (!map.is_map()) {
    faults.push_back({path + (map.line ? " (" + map.place() + ")" : ""), "a map of keys", map.text, ""});
    return;
  }
  FieldReader reader(map, path, faults);
  config.fields(reader);
  reader.refuse_unknown();
}
/// Same; throws Error with all faults.
template <HasFields Config>
Config read_fields(const Node& map, const std::string& path) {
  Config config;
  std::vector<Fault> faults;
  read_fields(config, map, path, faults);
  if (!faults.empty()) throw Error(std::move(faults));
  return config;
}

}  // namespace attar

#include "base/fields_write.h"
