#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "base/check.h"
#include "formats/cursor.h"
#include "formats/gguf.h"
#include "formats/gguf_layout.h"

namespace attar {
namespace gguf_layout {

uint64_t tensor_bytes(GgmlType type, const std::vector<int64_t>& shape, const std::string& where) {
  if (shape.empty() || shape.size() > kMaxDims) fail(where, "1 to 4 sizes", std::to_string(shape.size()));
  for (int64_t size : shape)
    if (size <= 0) fail(where + ": sizes", "all positive", shape_words(shape));
  const auto& info = ggml_type_info(type);
  const auto elements = shape_product(shape);
  if (!elements) fail(where + ": sizes", "a product below 2^63", shape_words(shape));
  if (shape.back() % info.block != 0)
    fail(where + ": row", str("a multiple of ", info.block, " weights, the block of ", info.name), std::to_string(shape.back()));
  int64_t bytes = 0;
  if (__builtin_mul_overflow(*elements / info.block, info.bytes, &bytes)) fail(where + ": sizes", "below 2^63 bytes", shape_words(shape));
  return static_cast<uint64_t>(bytes);
}

uint64_t padded(uint64_t size, uint64_t alignment, const std::string& where) {
  uint64_t end = 0;
  if (__builtin_add_overflow(size, alignment - 1, &end)) fail(where, "an end below 2^64 bytes", std::to_string(size));
  return end & ~(alignment - 1);
}

}  // namespace gguf_layout

namespace {

std::string_view gguf_text(ByteCursor& in, const char* what) {
  const auto size = in.number<uint64_t>(what);
  if (size > gguf_layout::kLimit) fail(in.name() + ": " + what, "at most 2^30 bytes", std::to_string(size));
  const auto bytes = in.bytes(size, what);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool gguf_boolean(uint8_t byte, const std::string& where) {
  if (byte > 1) fail(where, "a boolean, 0 or 1", std::to_string(byte));
  return byte == 1;
}

template <class T>
GgufValue gguf_array(ByteCursor& in, uint64_t count, const std::string& where) {
  // A string takes at least its length; checked before memory is taken, so that a small file cannot ask for much.
  constexpr uint64_t least = std::is_same_v<T, std::string> ? 8 : sizeof(T);
  if (count > in.left() / least) fail(where, str(count, " items"), str(in.left(), " bytes left"), "the file is cut short or damaged");
  std::vector<T> out;
  if constexpr (std::is_same_v<T, std::string>) {
    out.reserve(count);
    for (uint64_t i = 0; i < count; ++i) out.emplace_back(gguf_text(in, "text in a list"));
  } else if constexpr (std::is_same_v<T, bool>) {
    const auto bytes = in.bytes(count, "list");
    out.reserve(count);
    for (uint8_t byte : bytes) out.push_back(gguf_boolean(byte, where));
  } else {
    out.resize(count);
    const auto bytes = in.bytes(count * sizeof(T), "list");
    if (count) std::memcpy(out.data(), bytes.data(), bytes.size());
  }
  return out;
}

template <class T>
GgufValue gguf_single(ByteCursor& in, const std::string& where) {
  if constexpr (std::is_same_v<T, std::string>) return std::string(gguf_text(in, "text"));
  else if constexpr (std::is_same_v<T, bool>) return gguf_boolean(in.number<uint8_t>("boolean"), where);
  else return in.number<T>("number");
}

template <class T>
GgufValue gguf_read_as(ByteCursor& in, bool array, uint64_t count, const std::string& where) {
  return array ? gguf_array<T>(in, count, where) : gguf_single<T>(in, where);
}

GgufValue gguf_read_value(ByteCursor& in, const std::string& where) {
  using gguf_layout::Kind;
  auto kind = static_cast<Kind>(in.number<int32_t>("value type"));
  const bool array = kind == Kind::array;
  uint64_t count = 0;
  if (array) {
    kind = static_cast<Kind>(in.number<int32_t>("item type"));
    if (kind == Kind::array) fail(where, "a list of single values", "a list of lists", "GGUF readers refuse nested lists");
    count = in.number<uint64_t>("list length");
    if (count > gguf_layout::kLimit) fail(where, "at most 2^30 items", std::to_string(count));
  }
  switch (kind) {
    case Kind::u8: return gguf_read_as<uint8_t>(in, array, count, where);
    case Kind::i8: return gguf_read_as<int8_t>(in, array, count, where);
    case Kind::u16: return gguf_read_as<uint16_t>(in, array, count, where);
    case Kind::i16: return gguf_read_as<int16_t>(in, array, count, where);
    case Kind::u32: return gguf_read_as<uint32_t>(in, array, count, where);
    case Kind::i32: return gguf_read_as<int32_t>(in, array, count, where);
    case Kind::f32: return gguf_read_as<float>(in, array, count, where);
    case Kind::boolean: return gguf_read_as<bool>(in, array, count, where);
    case Kind::text: return gguf_read_as<std::string>(in, array, count, where);
    case Kind::u64: return gguf_read_as<uint64_t>(in, array, count, where);
    case Kind::i64: return gguf_read_as<int64_t>(in, array, count, where);
    case Kind::f64: return gguf_read_as<double>(in, array, count, where);
    case Kind::array: break;
  }
  fail(where, "a value type from 0 to 12", std::to_string(static_cast<int32_t>(kind)));
}

uint64_t gguf_count(ByteCursor& in, const char* what, uint64_t least_bytes) {
  const auto count = in.number<uint64_t>(what);
  if (count > in.left() / least_bytes)
    fail(in.name() + ": " + what, str("at most ", in.left() / least_bytes, ", for a file of this size"), std::to_string(count),
         "the file is cut short or damaged");
  return count;
}

GgufTensor gguf_tensor_record(ByteCursor& in) {
  GgufTensor tensor;
  const auto name = gguf_text(in, "tensor name");
  const std::string where = in.name() + ": tensor '" + shown(name) + "'";
  if (name.empty() || name.size() > gguf_layout::kNameBytes || name.find('\0') != std::string_view::npos)
    fail(where + ": name", str("1 to ", gguf_layout::kNameBytes, " bytes without NUL"), str(name.size(), " bytes"));
  tensor.name = name;
  const auto dims = in.number<uint32_t>("number of sizes");
  if (dims < 1 || dims > gguf_layout::kMaxDims) fail(where, "1 to 4 sizes", std::to_string(dims));
  tensor.shape.resize(dims);
  for (uint32_t d = 0; d < dims; ++d) {
    const auto size = in.number<uint64_t>("size");
    if (size > static_cast<uint64_t>(INT64_MAX)) fail(where + ": size", "below 2^63", std::to_string(size));
    tensor.shape[dims - 1 - d] = static_cast<int64_t>(size);
  }
  const auto type = in.number<int32_t>("tensor type");
  if (!find_ggml_type(type)) fail(where + ": type", "one that attar decodes", ggml_type_label(type));
  tensor.type = static_cast<GgmlType>(type);
  tensor.offset = in.number<uint64_t>("tensor offset");
  tensor.size = gguf_layout::tensor_bytes(tensor.type, tensor.shape, where);
  return tensor;
}

void gguf_check_start(ByteCursor& in) {
  const auto magic = in.bytes(4, "GGUF magic");
  if (std::memcmp(magic.data(), gguf_layout::kMagic, 4) != 0) fail(in.name(), "a file that starts with GGUF", "other bytes", "is this a GGUF file?");
  const auto version = in.number<uint32_t>("GGUF version");
  if (version != 0 && (version & 0xffff) == 0)
    fail(in.name() + ": byte order", "little-endian", "big-endian", "convert the file to little-endian first");
  if (version != 2 && version != gguf_layout::kVersion) fail(in.name() + ": GGUF version", "2 or 3", std::to_string(version));
}

}  // namespace

int64_t GgufTensor::elements() const {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

GgufFile::GgufFile(const fs::path& path) : file_(path) {
  const std::string name = path.string();
  ByteCursor in(file_.bytes(), name);
  gguf_check_start(in);
  const auto tensor_count = gguf_count(in, "number of tensors", 8 + 1 + 4 + 8 + 4 + 8);
  const auto key_count = gguf_count(in, "number of metadata keys", 8 + 1 + 4 + 1);

  std::unordered_set<std::string_view> keys;
  for (uint64_t i = 0; i < key_count; ++i) {
    const auto key = gguf_text(in, "metadata key");
    const std::string where = name + ": metadata '" + shown(key) + "'";
    if (key.empty()) fail(name + ": metadata key", "a name", "an empty one");
    if (!keys.insert(key).second) fail(where, "one value", "two");
    metadata_.entries_.emplace_back(std::string(key), gguf_read_value(in, where));
  }
  uint64_t alignment = gguf_layout::kAlignment;
  if (const auto* given = metadata_.find("general.alignment")) {
    const auto* held = std::get_if<uint32_t>(given);
    if (!held || *held == 0 || (*held & (*held - 1)) != 0)
      fail(name + ": general.alignment", "a power of two (uint32)", held ? std::to_string(*held) : "another type");
    alignment = *held;
  }

  uint64_t expected = 0;
  tensors_.reserve(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    GgufTensor tensor = gguf_tensor_record(in);
    const std::string where = name + ": tensor '" + shown(tensor.name) + "'";
    if (!index_.emplace(tensor.name, i).second) fail(where, "a name of its own", "one that is taken");
    if (tensor.offset != expected) fail(where + ": offset", str(expected, " (no hole, no overlap)"), std::to_string(tensor.offset));
    if (__builtin_add_overflow(expected, gguf_layout::padded(tensor.size, alignment, where), &expected))
      fail(where, "an end below 2^64 bytes", "more");
    tensors_.push_back(std::move(tensor));
  }
  // A file without tensors (a vocabulary) may end with its header; otherwise all data and its padding are there, and nothing else.
  data_begin_ = gguf_layout::padded(in.position(), alignment, name);
  const uint64_t size = file_.bytes().size();
  if (tensor_count == 0) {
    if (size > data_begin_) fail(name + ": data", "none, as there are no tensors", str(size - data_begin_, " bytes"));
    data_begin_ = std::min(data_begin_, size);
  } else if (size < data_begin_ || size - data_begin_ != expected) {
    fail(name + ": tensor data", str(expected, " bytes from byte ", data_begin_), str(size < data_begin_ ? 0 : size - data_begin_, " bytes"),
         "the file is cut short or damaged");
  }
}

const GgufTensor* GgufFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::span<const uint8_t> GgufFile::bytes(const GgufTensor& tensor) const { return file_.bytes().subspan(data_begin_ + tensor.offset, tensor.size); }

void GgufFile::release(const GgufTensor& tensor) const { file_.release(data_begin_ + tensor.offset, tensor.size); }

}  // namespace attar
