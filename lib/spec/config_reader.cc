#include "spec/config_reader.h"

#include <cmath>

namespace attar {

bool ConfigReader::present(const char* key) const { return object_.is_object() && object_.contains(key); }
bool ConfigReader::has(const char* key) const { return present(key) && !object_.at(key).is_null(); }

void ConfigReader::wrong(const std::string& key, std::string expected, std::string received, std::string hint) const {
  faults_.push_back({file_ + ": key '" + prefix_ + key + "'", std::move(expected), std::move(received), std::move(hint)});
}

void ConfigReader::wrong_type(const char* key, const char* expected) const {
  wrong(key, expected, has(key) ? to_line(object_.at(key)).substr(0, 60) : "nothing");
}

int64_t ConfigReader::size(const char* key, int64_t fallback, int64_t largest) const {
  if (!has(key)) {
    if (fallback == 0) wrong(key, "to be there", "nothing");
    return fallback == 0 ? 1 : fallback;
  }
  const Json& value = object_.at(key);
  // Some tools write whole numbers as 4096.0.
  const double number = value.is_number() ? value.get<double>() : 0;
  if (!(number >= 1 && number <= static_cast<double>(largest)) || number != std::floor(number)) {
    wrong(key, str("a whole number from 1 to ", largest), to_line(value).substr(0, 60));
    return 1;
  }
  return static_cast<int64_t>(number);
}

double ConfigReader::number(const char* key, double fallback) const {
  if (!has(key)) return fallback;
  const Json& value = object_.at(key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    wrong_type(key, "a number");
    return fallback;
  }
  return value.get<double>();
}

double ConfigReader::positive(const char* key, double fallback) const {
  if (!has(key) && fallback == 0) {
    wrong(key, "to be there", "nothing");
    return 1;
  }
  const double value = number(key, fallback);
  if (value > 0) return value;
  wrong_type(key, "a number above 0");
  return 1;
}

bool ConfigReader::boolean(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!object_.at(key).is_boolean()) {
    wrong_type(key, "true or false");
    return fallback;
  }
  return object_.at(key).get<bool>();
}

std::string ConfigReader::text(const char* key, const std::string& fallback) const {
  if (!has(key)) return fallback;
  if (!object_.at(key).is_string()) {
    wrong_type(key, "text");
    return fallback;
  }
  return object_.at(key).get<std::string>();
}

int64_t ConfigReader::token(const char* key) const {
  const std::vector<int64_t> all = tokens(key);
  if (all.size() > 1) wrong_type(key, "one token id");
  return all.empty() ? -1 : all.front();
}

std::vector<int64_t> ConfigReader::tokens(const char* key) const {
  std::vector<int64_t> all;
  if (!has(key)) return all;
  const Json& value = object_.at(key);
  auto take = [&](const Json& id) {
    if (!id.is_number_integer() || id.get<double>() < -1 || id.get<double>() > 2147483647.0) return wrong_type(key, "token ids");
    if (id.get<int64_t>() >= 0) all.push_back(id.get<int64_t>());  // -1 is some files' "none"
  };
  if (value.is_array()) {
    for (const Json& id : value) take(id);
  } else {
    take(value);
  }
  return all;
}

std::vector<double> ConfigReader::positives(const char* key, size_t count) const {
  std::vector<double> all;
  if (has(key) && object_.at(key).is_array())
    for (const Json& value : object_.at(key))
      if (value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() > 0) all.push_back(value.get<double>());
  if (has(key) && object_.at(key).is_array() && object_.at(key).size() == count && all.size() == count) return all;
  wrong_type(key, str("a list of ", count, " positive numbers").c_str());
  return std::vector<double>(count, 1.0);
}

std::vector<int64_t> ConfigReader::sizes(const char* key, size_t count) const {
  std::vector<int64_t> all;
  for (double value : positives(key, count)) {
    if (value != std::floor(value) || value > 2147483647.0) {
      wrong_type(key, "whole numbers");
      return std::vector<int64_t>(count, 1);
    }
    all.push_back(static_cast<int64_t>(value));
  }
  return all;
}

std::vector<std::string> ConfigReader::words(const char* key, size_t count) const {
  std::vector<std::string> all;
  if (has(key) && object_.at(key).is_array())
    for (const Json& value : object_.at(key))
      if (value.is_string()) all.push_back(value.get<std::string>());
  if (all.size() == count && object_.at(key).size() == count) return all;
  wrong_type(key, str("a list of ", count, " words").c_str());
  return std::vector<std::string>(count);
}

}  // namespace attar
