#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/files.h"

namespace attar {

/// One named array of a shard. dtype: "u8", "u16", "i32", "i64", "f16" (as raw bits), "f32".
struct ShardArray {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;  ///< C order, little-endian
  bool deflated = false;       ///< in the file: HDF5's shuffle and deflate filters, which every reader of HDF5 undoes by itself
};

/// Writes an HDF5 file of datasets and string/integer attributes: equal content gives equal bytes. Atomic.
void write_shard(const fs::path& path, const std::map<std::string, ShardArray>& arrays, const std::map<std::string, std::string>& attributes);

/// Reads a shard whole. `sha256` (lower-case hex) is checked against the file's bytes before HDF5 opens it; Error names the shard.
std::map<std::string, ShardArray> read_shard(const fs::path& path, const std::string& sha256);

}  // namespace attar
