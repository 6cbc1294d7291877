#pragma once
// Reading of one config.json object: every fault is kept, so that all of a file are reported together.
#include <initializer_list>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"

namespace attar {

/// Typed access to the keys of a JSON object. null counts as absent, as Python's None does in Hugging Face's configurations.
class ConfigReader {
 public:
  ConfigReader(const Json& object, std::string file, std::vector<Fault>& faults, std::string prefix = "")
      : object_(object), file_(std::move(file)), prefix_(std::move(prefix)), faults_(faults) {}

  bool has(const char* key) const;               ///< there and not null
  bool present(const char* key) const;           ///< there, be it null
  const Json& at(const char* key) const { return object_.at(key); }
  int64_t size(const char* key, int64_t fallback, int64_t largest = 2147483647) const;  ///< 1 .. largest; fallback 0: must be there
  double number(const char* key, double fallback) const;    ///< finite
  double positive(const char* key, double fallback) const;  ///< fallback 0: must be there
  bool boolean(const char* key, bool fallback) const;
  std::string text(const char* key, const std::string& fallback) const;
  int64_t token(const char* key) const;                     ///< -1 when absent
  std::vector<int64_t> tokens(const char* key) const;       ///< one id or a list
  std::vector<double> positives(const char* key, size_t count) const;  ///< exactly `count` numbers above 0
  std::vector<int64_t> sizes(const char* key, size_t count) const;     ///< exactly `count` whole numbers above 0
  std::vector<std::string> words(const char* key, size_t count) const;
  ConfigReader inner(const char* key) const { return ConfigReader(object_.at(key), file_, faults_, prefix_ + key + "."); }
  bool is_object(const char* key) const { return has(key) && object_.at(key).is_object(); }

  void wrong(const std::string& key, std::string expected, std::string received, std::string hint = "") const;
  const std::string& file() const { return file_; }

 private:
  void wrong_type(const char* key, const char* expected) const;
  const Json& object_;
  std::string file_, prefix_;
  std::vector<Fault>& faults_;
};

}  // namespace attar
