#pragma once
#include <cstdint>
#include <vector>

#include "formats/gguf.h"

namespace attar {

/// What reader and writer of GGUF agree on (docs of ggml: gguf.md; limits: gguf.cpp).
namespace gguf_layout {

constexpr char kMagic[4] = {'G', 'G', 'U', 'F'};
constexpr uint32_t kVersion = 3;
constexpr uint64_t kAlignment = 32;          ///< when general.alignment is absent, and always in files of ours
constexpr uint64_t kLimit = uint64_t{1} << 30;  ///< bytes of a string, items of an array
constexpr size_t kNameBytes = 63;            ///< of a tensor
constexpr size_t kMaxDims = 4;

enum class Kind : int32_t {
  u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7, text = 8, array = 9, u64 = 10, i64 = 11, f64 = 12,
};

/// Number of T's kind in the file.
template <class T>
constexpr Kind kind_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return Kind::u8;
  else if constexpr (std::is_same_v<T, int8_t>) return Kind::i8;
  else if constexpr (std::is_same_v<T, uint16_t>) return Kind::u16;
  else if constexpr (std::is_same_v<T, int16_t>) return Kind::i16;
  else if constexpr (std::is_same_v<T, uint32_t>) return Kind::u32;
  else if constexpr (std::is_same_v<T, int32_t>) return Kind::i32;
  else if constexpr (std::is_same_v<T, uint64_t>) return Kind::u64;
  else if constexpr (std::is_same_v<T, int64_t>) return Kind::i64;
  else if constexpr (std::is_same_v<T, float>) return Kind::f32;
  else if constexpr (std::is_same_v<T, double>) return Kind::f64;
  else if constexpr (std::is_same_v<T, bool>) return Kind::boolean;
  else return Kind::text;
}

/// Bytes of a tensor after the loader's rules: 1 to 4 sizes, all positive, whole blocks in a row, no overflow.
/// `where` names file and tensor in the Error. `shape` is row-major.
uint64_t tensor_bytes(GgmlType type, const std::vector<int64_t>& shape, const std::string& where);

/// `size` rounded up to `alignment` (a power of two); Error when that leaves 64 bits.
uint64_t padded(uint64_t size, uint64_t alignment, const std::string& where);

}  // namespace gguf_layout
}  // namespace attar
