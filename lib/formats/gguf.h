#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/files.h"
#include "formats/ggml_types.h"

namespace attar {

/// A metadata value. Integers keep the width they have in the file; arrays are of one type.
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t, float, double, bool, std::string,
                               std::vector<std::string>, std::vector<float>, std::vector<int32_t>, std::vector<uint32_t>, std::vector<uint8_t>,
                               std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>, std::vector<int64_t>, std::vector<uint64_t>,
                               std::vector<double>, std::vector<bool>>;
/// Metadata in the order of the file.
class GgufMetadata {
 public:
  void set(const std::string& key, GgufValue value);  ///< replaces or appends
  const GgufValue* find(const std::string& key) const;
  const std::vector<std::pair<std::string, GgufValue>>& entries() const { return entries_; }
  bool has(const std::string& key) const { return find(key) != nullptr; }
  void erase(const std::string& key);
  /// Any integer type that holds it; the second form gives `fallback` if the key is missing. Error on another type.
  int64_t integer(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t fallback) const;
  double number(const std::string& key) const;
  double number(const std::string& key, double fallback) const;
  bool boolean(const std::string& key, bool fallback) const;
  std::string text(const std::string& key) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  /// One number for all layers, or an array of `count`.
  std::vector<int64_t> per_layer(const std::string& key, int64_t count) const;

 private:
  friend class GgufFile;  // appends keys that it has found to be new, without set()'s search
  std::vector<std::pair<std::string, GgufValue>> entries_;
};

struct GgufTensor {
  std::string name;
  GgmlType type;
  std::vector<int64_t> shape;  ///< row-major as everywhere here: the reverse of the file's dims
  uint64_t offset = 0;         ///< in the data section
  uint64_t size = 0;
  int64_t elements() const;
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const { return elements() / columns(); }
};

/// A GGUF v3 file (v2 is read too), mapped and checked by the loader's own rules before use.
class GgufFile {
 public:
  explicit GgufFile(const fs::path& path);
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(const std::string& name) const;
  std::span<const uint8_t> bytes(const GgufTensor& tensor) const;
  void release(const GgufTensor& tensor) const;
  const fs::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  uint64_t data_begin_ = 0;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t> index_;
};

/// Writes GGUF v3 (alignment 32): declare metadata and tensors, then stream bytes in that order, or give them in any order, then commit().
class GgufWriter {
 public:
  struct Declared { std::string name; GgmlType type; std::vector<int64_t> shape; };
  GgufWriter(const fs::path& path, const GgufMetadata& metadata, std::vector<Declared> tensors);
  void write(const void* data, size_t size);  ///< bytes of the current tensor, in pieces; padding is ours
  /// From here on bytes come by write_at() alone; the whole file's room is taken.
  void any_order();
  /// Bytes [offset, offset + size) of tensor number `tensor`, each byte once; several threads may call it at once.
  void write_at(size_t tensor, uint64_t offset, const void* data, size_t size);
  void commit();  ///< Error if bytes are missing

 private:
  AtomicFile file_;
  std::vector<uint64_t> sizes_, offsets_;  ///< bytes of each tensor; where it begins in the data section
  size_t current_ = 0;
  uint64_t written_ = 0, data_begin_ = 0, data_size_ = 0;
  bool any_order_ = false;
  std::atomic<uint64_t> given_{0};  ///< by write_at()
  void pad();
};

}  // namespace attar
