#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"

namespace attar {

/// Writes a float32 .npy (version 1.0) row by row: (rows, columns), C order.
class NpyWriter {
 public:
  NpyWriter(const fs::path& path, int64_t rows, int64_t columns);
  void write(const float* values, int64_t count);
  void commit();

 private:
  AtomicFile file_;
  int64_t left_;
};

struct NpyArray {
  std::string dtype;           ///< "<f4", "<f2", "<i4", "<i8", "|u1", "<u2"
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;  ///< C order
};
/// Strict reader of C-order little-endian .npy.
NpyArray read_npy(const fs::path& path);
/// The same from memory; `name` stands in errors.
NpyArray parse_npy(std::span<const uint8_t> content, const std::string& name);

/// Arrays by name of an .npz file as numpy.savez writes it: a zip of uncompressed .npy files, each with its CRC-32 checked. Compressed ones are
/// refused.
std::map<std::string, NpyArray> read_npz(const fs::path& path);

}  // namespace attar
