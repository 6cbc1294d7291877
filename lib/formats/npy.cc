#include "formats/npy.h"

#include <charconv>
#include <utility>

#include "base/check.h"
#include "formats/cursor.h"

namespace attar {
namespace {

struct NpyDtype {
  const char* name;
  int64_t bytes;
};
constexpr NpyDtype kNpyDtypes[] = {{"<f4", 4}, {"<f2", 2}, {"<i4", 4}, {"<i8", 8}, {"|u1", 1}, {"<u2", 2}};

// The header is a Python dictionary with three keys in any order: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class NpyHeader {
 public:
  NpyHeader(std::string_view text, const std::string& name) : text_(text), name_(name) { parse(); }
  std::string dtype;
  std::vector<int64_t> shape;

 private:
  void parse() {
    bool dtype_seen = false, order_seen = false, shape_seen = false;
    need('{');
    while (!take('}')) {
      const std::string key = quoted();
      need(':');
      if (key == "descr" && !std::exchange(dtype_seen, true)) {
        dtype = quoted();
      } else if (key == "fortran_order" && !std::exchange(order_seen, true)) {
        if (!word("False")) fail(name_ + ": npy order", "C order (fortran_order False)", "another");
      } else if (key == "shape" && !std::exchange(shape_seen, true)) {
        sizes();
      } else {
        fail(name_ + ": npy header", "descr, fortran_order and shape, once each", "'" + shown(key) + "'");
      }
      if (take('}')) break;
      need(',');
    }
    skip();
    if (at_ != text_.size()) damaged();
    if (!dtype_seen || !order_seen || !shape_seen) fail(name_ + ": npy header", "descr, fortran_order and shape", "fewer");
  }
  void sizes() {
    need('(');
    while (!take(')')) {
      skip();
      int64_t size = 0;
      const auto [end, problem] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
      if (problem != std::errc() || size < 0) damaged();
      at_ = static_cast<size_t>(end - text_.data());
      shape.push_back(size);
      if (take(')')) break;
      need(',');
    }
  }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void need(char c) {
    if (!take(c)) damaged();
  }
  bool word(std::string_view expected) {
    skip();
    if (text_.substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    return true;
  }
  std::string quoted() {
    skip();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) damaged();
    const char quote = text_[at_++];
    const size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) damaged();
    std::string out(text_.substr(at_, end - at_));
    at_ = end + 1;
    return out;
  }
  [[noreturn]] void damaged() const {
    fail(name_ + ": npy header", "a dictionary with descr, fortran_order and shape", str("damage at its byte ", at_));
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
};

}  // namespace

NpyWriter::NpyWriter(const fs::path& path, int64_t rows, int64_t columns) : file_(path) {
  int64_t bytes = 0;
  if (rows < 0 || columns < 0 || __builtin_mul_overflow(rows, columns, &left_) || __builtin_mul_overflow(left_, 4, &bytes))
    fail(path.string() + ": sizes", "from 0 and below 2^63 bytes", shape_words({rows, columns}));
  std::string header = str("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", columns, "), }");
  constexpr size_t start = 10;  // magic, version, length
  header.append((64 - (start + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  const auto length = static_cast<uint16_t>(header.size());
  file_.write(std::string_view("\x93NUMPY\x01\x00", 8));
  file_.write(&length, sizeof length);
  file_.write(header);
}

void NpyWriter::write(const float* values, int64_t count) {
  if (count < 0 || count > left_) fail(file_.temporary().string() + ": values", str("at most ", left_, " more"), std::to_string(count));
  file_.write(values, static_cast<size_t>(count) * sizeof(float));
  left_ -= count;
}

void NpyWriter::commit() {
  if (left_ != 0) fail(file_.temporary().string() + ": values", "all that were declared", str(left_, " are missing"));
  file_.commit();
}

NpyArray read_npy(const fs::path& path) {
  const MappedFile file(path);
  return parse_npy(file.bytes(), path.string());
}

NpyArray parse_npy(std::span<const uint8_t> content, const std::string& name) {
  ByteCursor in(content, name);
  const auto magic = in.bytes(6, "npy magic");
  if (std::memcmp(magic.data(), "\x93NUMPY", 6) != 0) fail(name, "a file that starts with NUMPY's magic", "other bytes", "is this an .npy file?");
  const auto major = in.number<uint8_t>("npy version");
  const auto minor = in.number<uint8_t>("npy version");
  if (major < 1 || major > 3 || minor != 0) fail(name + ": npy version", "1.0, 2.0 or 3.0", str(+major, ".", +minor));
  const uint64_t length = major == 1 ? in.number<uint16_t>("npy header length") : in.number<uint32_t>("npy header length");
  const auto text = in.bytes(length, "npy header");
  const NpyHeader header({reinterpret_cast<const char*>(text.data()), text.size()}, name);

  NpyArray out{header.dtype, header.shape, {}};
  int64_t item = 0;
  for (const auto& row : kNpyDtypes)
    if (out.dtype == row.name) item = row.bytes;
  if (item == 0) fail(name + ": npy dtype", "<f4, <f2, <i4, <i8, |u1 or <u2", "'" + shown(out.dtype) + "'");
  const auto elements = shape_product(out.shape);
  int64_t size = 0;
  if (!elements || __builtin_mul_overflow(*elements, item, &size))
    fail(name + ": npy shape", "a size below 2^63 bytes", shown(shape_words(out.shape)));
  if (static_cast<uint64_t>(size) != in.left())
    fail(name + ": npy data", str(size, " bytes"), str(in.left(), " bytes"), "the file is cut short or damaged");
  const auto bytes = in.bytes(in.left(), "npy data");
  out.bytes.assign(bytes.begin(), bytes.end());
  return out;
}

}  // namespace attar
