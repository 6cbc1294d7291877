#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace attar {

/// A YAML (or JSON) value as it was written, with the place it came from. Scalars stay text until a field reads them,
/// so `010`, `no` and `1e3` mean what the field's type says. Strict: duplicate keys, aliases and merge keys are refused.
struct Node {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  bool quoted = false;                            ///< scalar in quotes: a string, never a number
  std::string text;                               ///< scalar
  std::vector<Node> items;                        ///< list
  std::vector<std::pair<std::string, Node>> entries;  ///< map, in the order written
  int line = 0;                                   ///< 1-based; 0: not from a file
  std::string file;                               ///< shown in errors; empty for command-line values

  bool is_null() const { return kind == Kind::null; }
  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_list() const { return kind == Kind::list; }
  bool is_map() const { return kind == Kind::map; }
  const Node* find(std::string_view key) const;   ///< entry of a map or null pointer
  Node* find(std::string_view key);
  std::string place() const;                      ///< "recipe.yaml:12" or ""

  static Node scalar(std::string text, bool quoted = false);
};

Node parse_yaml(std::string_view text, const std::string& name);
/// JSON by JSON's own rules (a YAML parser refuses its tabs and escaped surrogate pairs).
Node parse_json_nodes(std::string_view text, const std::string& name);
/// A file named *.json is read as JSON, any other as YAML.
Node read_yaml(const std::filesystem::path& file);

/// Sets a dotted path ("stages.student.train.steps") to a YAML value, making maps on the way. Items of lists by number.
void set_override(Node& root, const std::string& assignment);

/// Best reading of a Node without a schema: null, true/false, integers and floats by YAML 1.2's core rules, else strings.
Json to_json(const Node& node);
Node from_json(const Json& value);
std::string to_yaml(const Node& node);

}  // namespace attar
