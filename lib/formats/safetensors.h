#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// Element types of safetensors that attar reads or writes; others are refused by name.
enum class Dtype { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };
int64_t dtype_bytes(Dtype dtype);
const char* dtype_name(Dtype dtype);  ///< as in the file: "F32"

struct TensorEntry {
  Dtype dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  ///< bytes relative to the data section
  int64_t elements() const;
};

/// One safetensors file, mapped. Every rule of docs/formats (section 3.1 of the format's README) is checked before use:
/// header length inside the file, offsets contiguous from 0 without overlap or hole, sizes equal to shape x dtype.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& path);
  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The tensor's bytes inside the mapping (alignment is not promised).
  std::span<const uint8_t> bytes(const std::string& name) const;
  const fs::path& path() const { return file_.path(); }
  void release(const std::string& name) const;  ///< the tensor's pages are not needed any more

 private:
  MappedFile file_;
  uint64_t data_begin_ = 0;
  std::map<std::string, TensorEntry> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A folder's weights: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const fs::path& folder);
  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  std::span<const uint8_t> bytes(const std::string& name) const;
  void release(const std::string& name) const;
  uint64_t total_bytes() const;

 private:
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, TensorEntry> tensors_;
  std::map<std::string, size_t> file_of_;
};

/// Writes one file, tensors streamed in: declare all, then give the bytes of each in the declared order, then commit().
/// Declared order is the file's order; the header is padded so that data begins on 64 bytes.
class SafetensorsWriter {
 public:
  struct Declared { std::string name; Dtype dtype; std::vector<int64_t> shape; };
  SafetensorsWriter(const fs::path& path, std::vector<Declared> tensors, const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  /// Bytes of the next tensor; may come in several pieces. Error if more come than were declared.
  void write(const void* data, size_t size);
  void commit();  ///< Error if bytes are missing

 private:
  AtomicFile file_;
  uint64_t expected_ = 0;
};

}  // namespace attar
