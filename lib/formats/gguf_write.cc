#include <algorithm>
#include <set>

#include "base/check.h"
#include "formats/cursor.h"
#include "formats/gguf.h"
#include "formats/gguf_layout.h"

namespace attar {
namespace {

template <class T>
void gguf_put(std::string& out, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void gguf_put_text(std::string& out, const std::string& text, const std::string& where) {
  if (text.size() > gguf_layout::kLimit) fail(where, "text of at most 2^30 bytes", str(text.size(), " bytes"));
  gguf_put<uint64_t>(out, text.size());
  out += text;
}

template <class T>
void gguf_put_item(std::string& out, const T& item, const std::string& where) {
  if constexpr (std::is_same_v<T, std::string>) gguf_put_text(out, item, where);
  else if constexpr (std::is_same_v<T, bool>) gguf_put<uint8_t>(out, item ? 1 : 0);
  else gguf_put<T>(out, item);
}

void gguf_put_value(std::string& out, const GgufValue& value, const std::string& where) {
  std::visit(
      [&](const auto& held) {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
          gguf_put<int32_t>(out, static_cast<int32_t>(gguf_layout::kind_of<T>()));
          gguf_put_item<T>(out, held, where);
        } else {
          using Item = typename T::value_type;
          if (held.size() > gguf_layout::kLimit) fail(where, "at most 2^30 items", std::to_string(held.size()));
          gguf_put<int32_t>(out, static_cast<int32_t>(gguf_layout::Kind::array));
          gguf_put<int32_t>(out, static_cast<int32_t>(gguf_layout::kind_of<Item>()));
          gguf_put<uint64_t>(out, held.size());
          for (const auto& item : held) gguf_put_item<Item>(out, item, where);
        }
      },
      value);
}

}  // namespace

GgufWriter::GgufWriter(const fs::path& path, const GgufMetadata& metadata, std::vector<Declared> tensors) : file_(path) {
  const std::string name = path.string();
  std::string header(gguf_layout::kMagic, 4);
  gguf_put<uint32_t>(header, gguf_layout::kVersion);
  gguf_put<uint64_t>(header, tensors.size());
  gguf_put<uint64_t>(header, metadata.entries().size());
  for (const auto& [key, value] : metadata.entries()) {
    const std::string where = name + ": metadata '" + shown(key) + "'";
    if (key.empty() || key.size() > 65535) fail(where, "a key of 1 to 65535 bytes", str(key.size(), " bytes"));
    if (key == "general.alignment" && (!std::holds_alternative<uint32_t>(value) || std::get<uint32_t>(value) != gguf_layout::kAlignment))
      fail(where, "32 (uint32)", "something else");
    gguf_put_text(header, key, where);
    gguf_put_value(header, value, where);
  }
  std::set<std::string> names;
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    const std::string where = name + ": tensor '" + shown(tensor.name) + "'";
    if (tensor.name.empty() || tensor.name.size() > gguf_layout::kNameBytes || tensor.name.find('\0') != std::string::npos)
      fail(where + ": name", str("1 to ", gguf_layout::kNameBytes, " bytes without NUL"), str(tensor.name.size(), " bytes"));
    if (!names.insert(tensor.name).second) fail(where, "a name of its own", "one that is taken");
    const uint64_t size = gguf_layout::tensor_bytes(tensor.type, tensor.shape, where);
    gguf_put_text(header, tensor.name, where);
    gguf_put<uint32_t>(header, static_cast<uint32_t>(tensor.shape.size()));
    for (size_t d = tensor.shape.size(); d-- > 0;) gguf_put<uint64_t>(header, static_cast<uint64_t>(tensor.shape[d]));
    gguf_put<int32_t>(header, static_cast<int32_t>(tensor.type));
    gguf_put<uint64_t>(header, offset);
    if (__builtin_add_overflow(offset, gguf_layout::padded(size, gguf_layout::kAlignment, where), &offset))
      fail(where, "an end below 2^64 bytes", "more");
    sizes_.push_back(size);
    offsets_.push_back(offset - gguf_layout::padded(size, gguf_layout::kAlignment, where));
  }
  data_size_ = offset;
  file_.write(header);
  pad();
  data_begin_ = file_.position();
}

void GgufWriter::pad() {
  static constexpr char zeros[gguf_layout::kAlignment] = {};
  const uint64_t over = file_.position() % gguf_layout::kAlignment;
  if (over) file_.write(zeros, gguf_layout::kAlignment - over);
}

void GgufWriter::write(const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  while (size > 0) {
    if (current_ == sizes_.size()) fail(file_.temporary().string() + ": tensor data", "no more than was declared", str(size, " bytes more"));
    const uint64_t take = std::min<uint64_t>(size, sizes_[current_] - written_);
    file_.write(bytes, take);
    bytes += take;
    size -= take;
    written_ += take;
    if (written_ == sizes_[current_]) {
      pad();
      ++current_;
      written_ = 0;
    }
  }
}

void GgufWriter::any_order() {
  if (current_ != 0 || written_ != 0) fail(file_.temporary().string() + ": tensor data", "to come in one way", "some in order before");
  any_order_ = true;
  current_ = sizes_.size();
  file_.extend(data_begin_ + data_size_);
}

void GgufWriter::write_at(size_t tensor, uint64_t offset, const void* data, size_t size) {
  if (!any_order_ || tensor >= sizes_.size() || offset > sizes_[tensor] || size > sizes_[tensor] - offset)
    fail(file_.temporary().string() + ": tensor data", "bytes inside a declared tensor", str(size, " at ", offset, " of tensor ", tensor));
  file_.write_at(data_begin_ + offsets_[tensor] + offset, data, size);
  given_ += size;
}

void GgufWriter::commit() {
  if (any_order_) {
    uint64_t all = 0;
    for (const uint64_t size : sizes_) all += size;
    if (given_ != all)
      fail(file_.temporary().string() + ": tensor data", str(all, " bytes, as declared"), str(given_.load()), "the writer was not given all bytes");
  }
  if (current_ != sizes_.size())
    fail(file_.temporary().string() + ": tensor data", str(sizes_.size(), " whole tensors, as declared"), str(current_),
         "the writer was not given all bytes");
  file_.commit();
}

}  // namespace attar
