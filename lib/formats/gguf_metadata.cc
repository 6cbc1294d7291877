#include <algorithm>

#include "base/check.h"
#include "formats/cursor.h"
#include "formats/gguf.h"

namespace attar {
namespace {

template <class T>
constexpr bool kGgufInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

struct GgufKindName {
  template <class T>
  std::string operator()(const T&) const {
    if constexpr (std::is_same_v<T, bool>) return "a boolean";
    else if constexpr (std::is_integral_v<T>) return "an integer";
    else if constexpr (std::is_floating_point_v<T>) return "a number with a fraction";
    else if constexpr (std::is_same_v<T, std::string>) return "text";
    else return "a list";
  }
};

[[noreturn]] void gguf_wrong_kind(const std::string& key, const char* expected, const GgufValue& value) {
  fail("GGUF metadata '" + shown(key) + "'", expected, std::visit(GgufKindName{}, value));
}

const GgufValue& gguf_value(const GgufMetadata& metadata, const std::string& key, const char* expected) {
  const auto* value = metadata.find(key);
  if (!value) {
    std::vector<std::string> known;
    for (const auto& entry : metadata.entries()) known.push_back(entry.first);
    const std::string near = nearest(key, known);
    fail("GGUF metadata '" + shown(key) + "'", expected, "nothing", near.empty() ? "" : "did you mean '" + shown(near) + "'?");
  }
  return *value;
}

int64_t gguf_integer(const std::string& key, const GgufValue& value) {
  return std::visit(
      [&](const auto& held) -> int64_t {
        using T = std::decay_t<decltype(held)>;
        if constexpr (kGgufInteger<T>) {
          if constexpr (std::is_same_v<T, uint64_t>)
            if (held > static_cast<uint64_t>(INT64_MAX)) fail("GGUF metadata '" + shown(key) + "'", "an integer below 2^63", std::to_string(held));
          return static_cast<int64_t>(held);
        } else {
          gguf_wrong_kind(key, "an integer", value);
        }
      },
      value);
}

double gguf_number(const std::string& key, const GgufValue& value) {
  return std::visit(
      [&](const auto& held) -> double {
        using T = std::decay_t<decltype(held)>;
        if constexpr (kGgufInteger<T> || std::is_floating_point_v<T>) return static_cast<double>(held);
        else gguf_wrong_kind(key, "a number", value);
      },
      value);
}

}  // namespace

void GgufMetadata::set(const std::string& key, GgufValue value) {
  for (auto& entry : entries_)
    if (entry.first == key) {
      entry.second = std::move(value);
      return;
    }
  entries_.emplace_back(key, std::move(value));
}

const GgufValue* GgufMetadata::find(const std::string& key) const {
  for (const auto& entry : entries_)
    if (entry.first == key) return &entry.second;
  return nullptr;
}

void GgufMetadata::erase(const std::string& key) {
  std::erase_if(entries_, [&](const auto& entry) { return entry.first == key; });
}

int64_t GgufMetadata::integer(const std::string& key) const { return gguf_integer(key, gguf_value(*this, key, "an integer")); }

int64_t GgufMetadata::integer(const std::string& key, int64_t fallback) const {
  const auto* value = find(key);
  return value ? gguf_integer(key, *value) : fallback;
}

double GgufMetadata::number(const std::string& key) const { return gguf_number(key, gguf_value(*this, key, "a number")); }

double GgufMetadata::number(const std::string& key, double fallback) const {
  const auto* value = find(key);
  return value ? gguf_number(key, *value) : fallback;
}

bool GgufMetadata::boolean(const std::string& key, bool fallback) const {
  const auto* value = find(key);
  if (!value) return fallback;
  if (const auto* held = std::get_if<bool>(value)) return *held;
  gguf_wrong_kind(key, "a boolean", *value);
}

std::string GgufMetadata::text(const std::string& key) const {
  const auto& value = gguf_value(*this, key, "text");
  if (const auto* held = std::get_if<std::string>(&value)) return *held;
  gguf_wrong_kind(key, "text", value);
}

std::string GgufMetadata::text(const std::string& key, const std::string& fallback) const { return has(key) ? text(key) : fallback; }

std::vector<int64_t> GgufMetadata::per_layer(const std::string& key, int64_t count) const {
  const auto& value = gguf_value(*this, key, "an integer, or a list with one for each layer");
  return std::visit(
      [&](const auto& held) -> std::vector<int64_t> {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, std::string> || std::is_arithmetic_v<T>) {
          return std::vector<int64_t>(static_cast<size_t>(count), gguf_integer(key, value));
        } else if constexpr (kGgufInteger<typename T::value_type>) {
          if (static_cast<int64_t>(held.size()) != count)
            fail("GGUF metadata '" + shown(key) + "'", str(count, " integers, one for each layer"), str(held.size()));
          std::vector<int64_t> out;
          for (const auto item : held) out.push_back(gguf_integer(key, GgufValue(item)));
          return out;
        } else {
          gguf_wrong_kind(key, "a list of integers", value);
        }
      },
      value);
}

}  // namespace attar
