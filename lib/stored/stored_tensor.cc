#include <cstring>

#include "base/check.h"
#include "blocks/ggml_blocks.h"
#include "stored/stored_model.h"

namespace attar {

int64_t StoredTensor::row_bytes() const { return ggml_row_bytes(type, columns()); }

const uint8_t* StoredTensor::row(int64_t row) const {
  if (permuted_heads > 0) {
    // Neighbours (2i, 2i + 1) of the file stood half a head apart.
    const int64_t head = rows() / permuted_heads, inside = row % head, half = head / 2;
    row += (inside < half ? 2 * inside : 2 * (inside - half) + 1) - inside;
  }
  return bytes.data() + row * row_bytes();
}

const uint8_t* StoredTensor::rows_together(int64_t begin, int64_t count, std::vector<uint8_t>& room) const {
  if (permuted_heads == 0 || count == 1) return row(begin);
  const int64_t width = row_bytes();
  room.resize(static_cast<size_t>(count * width));
  for (int64_t i = 0; i < count; ++i) std::memcpy(room.data() + i * width, row(begin + i), static_cast<size_t>(width));
  return room.data();
}

void StoredTensor::values(int64_t begin, int64_t count, float* out) const {
  std::vector<uint8_t> room;
  const uint8_t* from = rows_together(begin, count, room);
  const int64_t wide = columns(), all = count * wide;
  if (type == GgmlType::f64) {
    for (int64_t i = 0; i < all; ++i) {
      double value = 0;
      std::memcpy(&value, from + i * 8, sizeof value);
      out[i] = static_cast<float>(value);
    }
  } else if (type == GgmlType::i8) {
    for (int64_t r = 0; r < count; ++r) {
      float scale = 0;
      std::memcpy(&scale, scales.data() + (begin + r) * 4, sizeof scale);
      for (int64_t c = 0; c < wide; ++c) out[r * wide + c] = static_cast<float>(static_cast<int8_t>(from[r * wide + c])) * scale;
    }
  } else {
    dequantize_rows(type, from, out, count, wide);
  }
  if (plus_one)
    for (int64_t i = 0; i < all; ++i) out[i] -= 1;
}

const StoredTensor& StoredModel::weight(const std::string& name) const {
  const auto found = weights.find(name);
  if (found == weights.end()) fail("tensor " + name, "to be in the model", "nothing");
  return found->second;
}

const StoredTensor* StoredModel::code(const std::string& name, GgmlType type) const {
  const auto found = codes.find(name);
  return found != codes.end() && found->second.type == type ? &found->second : nullptr;
}

}  // namespace attar
