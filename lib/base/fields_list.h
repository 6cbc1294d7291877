#pragma once
// Included by base/fields.h only.
#include <string>
#include <vector>

namespace attar {

/// One key of a struct, flattened with dots, for --help, command-line flags and the docs.
struct FieldInfo {
  std::string name;      ///< "train.lr"
  std::string type;      ///< "number", "integer", "boolean", "text", "list", "map"
  std::string fallback;  ///< default, as text; "" if none
  std::string help;
};

class FieldLister {
 public:
  explicit FieldLister(std::vector<FieldInfo>& out, std::string prefix = "") : out_(out), prefix_(std::move(prefix)) {}
  template <class T>
  void operator()(const char* name, T& value, const char* help) { list(prefix_ + name, value, help); }

 private:
  template <class T>
  void list(const std::string& name, T& value, const char* help) {
    if constexpr (std::is_same_v<T, Node>) {
      out_.push_back({name, "value", "", help});
    } else if constexpr (HasFields<T>) {
      FieldLister inner(out_, name + ".");
      value.fields(inner);
    } else if constexpr (std::is_same_v<T, std::string>) {
      out_.push_back({name, "text", value, help});
    } else {
      out_.push_back({name, TypeName<T>::kSchema, Json(value).dump(), help});
    }
  }
  template <class T>
  void list(const std::string& name, std::optional<T>&, const char* help) {
    T value{};
    if constexpr (HasFields<T>) {
      list(name, value, help);
    } else {
      list(name, value, help);
      out_.back().fallback.clear();
    }
  }
  template <class T>
  void list(const std::string& name, std::vector<T>&, const char* help) { out_.push_back({name, "list", "", help}); }
  template <class T>
  void list(const std::string& name, std::map<std::string, T>&, const char* help) { out_.push_back({name, "map", "", help}); }
  std::vector<FieldInfo>& out_;
  std::string prefix_;
};

template <HasFields Config>
std::vector<FieldInfo> list_fields() {
  std::vector<FieldInfo> out;
  Config config;
  FieldLister lister(out);
  config.fields(lister);
  return out;
}

}  // namespace attar
