#pragma once
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {

/// A name from an untrusted file as it may stand in a sentence: printable, one line, cut at 80 bytes.
inline std::string shown(std::string_view text) { return one_line(text.substr(0, 80)) + (text.size() > 80 ? "..." : ""); }

/// Product of sizes, or nothing if one is negative or the product leaves int64.
inline std::optional<int64_t> shape_product(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(product, size, &product)) return std::nullopt;
  return product;
}

/// "[2, 3]"
inline std::string shape_words(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

/// Reads little-endian numbers one after another from untrusted bytes; an Error names the file and what was to be read.
class ByteCursor {
 public:
  ByteCursor(std::span<const uint8_t> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }
  const std::string& name() const { return name_; }

  std::span<const uint8_t> bytes(uint64_t size, const char* what) {
    if (size > left()) fail(name_ + ": " + what, str(size, " bytes at byte ", position_), str(left(), " bytes"), "the file is cut short or damaged");
    const auto out = bytes_.subspan(position_, size);
    position_ += size;
    return out;
  }
  template <class T>
  T number(const char* what) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, bytes(sizeof(T), what).data(), sizeof(T));
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
  std::string name_;
  uint64_t position_ = 0;
};

}  // namespace attar
