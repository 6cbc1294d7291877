#include <set>

#include "base/check.h"
#include "formats/cursor.h"
#include "formats/safetensors.h"

namespace attar {
namespace {

constexpr uint64_t kSafetensorsAlignment = 64;

// JSON's own quoting; a name that is no UTF-8 cannot stand in a header.
std::string safetensors_quoted(const std::string& text, const std::string& file) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail(file + ": name or metadata '" + shown(text) + "'", "valid UTF-8", "other bytes");
  }
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const fs::path& path, std::vector<Declared> tensors, const std::map<std::string, std::string>& metadata)
    : file_(path) {
  const std::string file = path.string();
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata)
      header += (header.back() == '{' ? "" : ",") + safetensors_quoted(key, file) + ":" + safetensors_quoted(value, file);
    header += "}";
  }
  std::set<std::string> names;
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second)
      fail(file + ": tensor '" + shown(tensor.name) + "'", "a name of its own", "one that is taken");
    const auto elements = shape_product(tensor.shape);
    int64_t size = 0;
    uint64_t end = 0;
    if (!elements || __builtin_mul_overflow(*elements, dtype_bytes(tensor.dtype), &size) ||
        __builtin_add_overflow(offset, static_cast<uint64_t>(size), &end))
      fail(file + ": tensor '" + shown(tensor.name) + "': shape", "sizes from 0 and below 2^63 bytes in all", shape_words(tensor.shape));
    header += (header.size() == 1 ? "" : ",") + safetensors_quoted(tensor.name, file);
    header += std::string(":{\"dtype\":\"") + dtype_name(tensor.dtype) + "\",\"shape\":[";
    for (size_t i = 0; i < tensor.shape.size(); ++i) header += (i ? "," : "") + std::to_string(tensor.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(end) + "]}";
    offset = end;
  }
  header += "}";
  header.append((kSafetensorsAlignment - (header.size() + 8) % kSafetensorsAlignment) % kSafetensorsAlignment, ' ');
  const uint64_t length = header.size();
  file_.write(&length, sizeof length);
  file_.write(header);
  expected_ = file_.position() + offset;
}

void SafetensorsWriter::write(const void* data, size_t size) {
  if (size > expected_ - file_.position())
    fail(file_.temporary().string() + ": tensor data", str(expected_ - file_.position(), " bytes more, as declared"), str(size));
  file_.write(data, size);
}

void SafetensorsWriter::commit() {
  if (file_.position() != expected_)
    fail(file_.temporary().string() + ": tensor data", "all declared bytes", str(expected_ - file_.position(), " bytes are missing"));
  file_.commit();
}

}  // namespace attar
