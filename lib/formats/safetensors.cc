#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "formats/cursor.h"

namespace attar {
namespace {

constexpr uint64_t kSafetensorsHeaderLimit = 100'000'000;  // the reference implementation's

struct DtypeRow {
  Dtype dtype;
  const char* name;
  int64_t bytes;
};
constexpr DtypeRow kDtypes[] = {
    {Dtype::f64, "F64", 8}, {Dtype::f32, "F32", 4}, {Dtype::f16, "F16", 2}, {Dtype::bf16, "BF16", 2}, {Dtype::i64, "I64", 8},
    {Dtype::i32, "I32", 4}, {Dtype::i16, "I16", 2}, {Dtype::i8, "I8", 1},   {Dtype::u8, "U8", 1},     {Dtype::boolean, "BOOL", 1},
};

// Events of nlohmann's parser that these files never hold; what both handlers below share.
// The parser keeps its own stack, so deep nesting cannot overflow ours, and no tree is built: a map of many keys stays linear.
class StrictEvents {
 public:
  explicit StrictEvents(std::string name) : name_(std::move(name)) {}
  bool null() { return scalar("null"); }
  bool boolean(bool) { return scalar("a boolean"); }
  bool number_integer(int64_t) { return scalar("a negative number"); }
  bool number_float(double, const std::string&) { return scalar("a fraction"); }
  template <class Binary>
  bool binary(Binary&) { return scalar("binary"); }
  template <class Problem>
  bool parse_error(size_t position, const std::string&, const Problem& problem) {
    fail(name_ + ": JSON", "valid text", str("damage near byte ", position, " (", shown(problem.what()), ")"));
  }

 protected:
  virtual ~StrictEvents() = default;
  virtual bool scalar(const char* what) = 0;
  std::string name_;
};

// {"__metadata__": {key: text}, tensor: {"dtype": text, "shape": [numbers], "data_offsets": [begin, end]}}
class HeaderEvents final : public StrictEvents {
 public:
  HeaderEvents(std::string name, std::map<std::string, TensorEntry>& tensors, std::map<std::string, std::string>& metadata)
      : StrictEvents(std::move(name)), tensors_(tensors), metadata_(metadata) {}

  bool start_object(size_t) {
    if (depth_ == 2 || list_) unexpected("an object");
    if (++depth_ == 2) {
      entry_ = {};
      dtype_seen_ = shape_seen_ = offsets_seen_ = false;
    }
    return true;
  }
  bool end_object() {
    if (--depth_ == 1 && !in_metadata()) finish_entry();
    return true;
  }
  bool key(std::string& text) {
    if (depth_ == 1) {
      tensor_ = text;
      if (tensor_ == "__metadata__" ? std::exchange(metadata_seen_, true) : tensors_.count(tensor_) > 0)
        fail(name_ + ": tensor '" + shown(text) + "'", "one entry", "two");
    } else {
      key_ = text;
      if (in_metadata()) {
        if (metadata_.count(key_)) fail(name_ + ": metadata '" + shown(text) + "'", "one value", "two");
      } else if (key_ != "dtype" && key_ != "shape" && key_ != "data_offsets") {
        fail(where(), "dtype, shape and data_offsets", "key '" + shown(text) + "'");
      }
    }
    return true;
  }
  bool string(std::string& text) {
    if (depth_ == 2 && in_metadata()) {
      metadata_[key_] = text;
      return true;
    }
    if (depth_ != 2 || list_ || key_ != "dtype") unexpected("text");
    if (std::exchange(dtype_seen_, true)) twice();
    for (const auto& row : kDtypes)
      if (text == row.name) {
        entry_.dtype = row.dtype;
        return true;
      }
    fail(where(), "dtype F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL", "'" + shown(text) + "'", "attar does not convert this type");
  }
  bool start_array(size_t) {
    if (depth_ != 2 || in_metadata() || list_ || key_ == "dtype") unexpected("a list");
    if (std::exchange(key_ == "shape" ? shape_seen_ : offsets_seen_, true)) twice();
    list_ = true;
    offsets_ = 0;
    return true;
  }
  bool end_array() {
    list_ = false;
    if (key_ == "data_offsets" && offsets_ != 2) fail(where() + ": data_offsets", "2 numbers", std::to_string(offsets_));
    return true;
  }
  bool number_unsigned(uint64_t value) {
    if (!list_) unexpected("a number");
    if (key_ == "shape") {
      if (value > INT64_MAX) fail(where() + ": shape", "sizes below 2^63", std::to_string(value));
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else {
      if (offsets_ < 2) (offsets_ == 0 ? entry_.begin : entry_.end) = value;
      ++offsets_;
    }
    return true;
  }

 private:
  bool scalar(const char* what) override { unexpected(what); }
  bool in_metadata() const { return tensor_ == "__metadata__"; }
  std::string where() const { return depth_ == 0 ? name_ + ": header" : name_ + ": tensor '" + shown(tensor_) + "'"; }
  [[noreturn]] void unexpected(const char* what) const {
    if (depth_ == 0) fail(where(), "an object", what);
    if (depth_ == 1) fail(where(), "an object of dtype, shape and data_offsets", what);
    fail(where() + ": key '" + shown(key_) + "'", in_metadata() ? "text" : "its own kind of value", what);
  }
  [[noreturn]] void twice() const { fail(where() + ": key '" + shown(key_) + "'", "one value", "two"); }
  void finish_entry() {
    if (!dtype_seen_ || !shape_seen_ || !offsets_seen_)
      fail(where(), "dtype, shape and data_offsets", str("no ", !dtype_seen_ ? "dtype" : !shape_seen_ ? "shape" : "data_offsets"));
    const auto elements = shape_product(entry_.shape);
    int64_t size = 0;
    if (!elements || __builtin_mul_overflow(*elements, dtype_bytes(entry_.dtype), &size))
      fail(where() + ": shape", "a size below 2^63 bytes", shown(shape_words(entry_.shape)));
    if (entry_.end < entry_.begin || entry_.end - entry_.begin != static_cast<uint64_t>(size))
      fail(where() + ": data_offsets", str(size, " bytes, as its shape and dtype say"), str("[", entry_.begin, ", ", entry_.end, "]"));
    tensors_.emplace(tensor_, std::move(entry_));
  }

  std::map<std::string, TensorEntry>& tensors_;
  std::map<std::string, std::string>& metadata_;
  int depth_ = 0;
  bool list_ = false, metadata_seen_ = false, dtype_seen_ = false, shape_seen_ = false, offsets_seen_ = false;
  int64_t offsets_ = 0;
  std::string tensor_, key_;
  TensorEntry entry_;
};

// {"metadata": anything, "weight_map": {tensor: file}}; other keys are passed over.
class IndexEvents final : public StrictEvents {
 public:
  IndexEvents(std::string name, std::map<std::string, std::string>& files) : StrictEvents(std::move(name)), files_(files) {}
  bool start_object(size_t) {
    if (depth_ == 1 && top_ == "weight_map" && std::exchange(map_seen_, true)) fail(name_ + ": weight_map", "one", "two");
    return open("an object", true);
  }
  bool end_object() { return close(); }
  bool start_array(size_t) {
    if (depth_ == 1 && top_ == "weight_map") scalar("a list");
    return open("a list", false);
  }
  bool end_array() { return close(); }
  bool key(std::string& text) {
    if (depth_ == 1) top_ = text;
    if (in_map()) {
      tensor_ = text;
      if (files_.count(text)) fail(name_ + ": weight_map: '" + shown(text) + "'", "one file", "two");
    }
    return true;
  }
  bool string(std::string& text) {
    if (!in_map()) return scalar("text");
    check_inside(text, name_ + ": weight_map");
    files_[tensor_] = text;
    return true;
  }
  bool number_unsigned(uint64_t) { return scalar("a number"); }
  bool found() const { return map_seen_; }

 private:
  bool scalar(const char* what) override {
    if (depth_ == 0) fail(name_, "an object", what);
    if (in_map() || (depth_ == 1 && top_ == "weight_map")) fail(name_ + ": weight_map", "an object of file names", what);
    return true;
  }
  bool in_map() const { return depth_ == 2 && top_ == "weight_map"; }
  bool open(const char* what, bool top_allowed) {
    if (in_map() || (depth_ == 0 && !top_allowed)) fail(name_, "an object with weight_map", what);
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }
  std::map<std::string, std::string>& files_;
  int64_t depth_ = 0;
  bool map_seen_ = false;
  std::string top_, tensor_;
};

}  // namespace

int64_t dtype_bytes(Dtype dtype) {
  for (const auto& row : kDtypes)
    if (row.dtype == dtype) return row.bytes;
  fail("safetensors dtype", "a known one", std::to_string(static_cast<int>(dtype)));
}

const char* dtype_name(Dtype dtype) {
  for (const auto& row : kDtypes)
    if (row.dtype == dtype) return row.name;
  fail("safetensors dtype", "a known one", std::to_string(static_cast<int>(dtype)));
}

int64_t TensorEntry::elements() const {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(path) {
  const std::string name = path.string();
  ByteCursor cursor(file_.bytes(), name);
  const auto length = cursor.number<uint64_t>("safetensors header length");
  if (length > kSafetensorsHeaderLimit)
    fail(name + ": header length", str("at most ", kSafetensorsHeaderLimit, " bytes"), std::to_string(length), "is this a safetensors file?");
  const auto header = cursor.bytes(length, "safetensors header");
  if (header.empty() || header[0] != '{') fail(name + ": header", "JSON that starts with '{'", "something else", "is this a safetensors file?");
  data_begin_ = cursor.position();
  HeaderEvents events(name, tensors_, metadata_);
  const char* text = reinterpret_cast<const char*>(header.data());
  nlohmann::json::sax_parse(text, text + header.size(), &events);

  std::vector<const std::pair<const std::string, TensorEntry>*> order;
  order.reserve(tensors_.size());
  for (const auto& entry : tensors_) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t expected = 0;
  for (const auto* entry : order) {
    if (entry->second.begin != expected)
      fail(name + ": tensor '" + shown(entry->first) + "'", str("data at byte ", expected, " (no hole, no overlap)"),
           str("byte ", entry->second.begin));
    expected = entry->second.end;
  }
  const uint64_t data = cursor.left();
  if (data != expected) fail(name + ": data", str(expected, " bytes, as the header says"), str(data, " bytes"), "the file is cut short or damaged");
}

std::span<const uint8_t> SafetensorsFile::bytes(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(path().string() + ": tensor '" + shown(name) + "'", "to be there", "nothing");
  return file_.bytes().subspan(data_begin_ + found->second.begin, found->second.end - found->second.begin);
}

void SafetensorsFile::release(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) file_.release(data_begin_ + found->second.begin, found->second.end - found->second.begin);
}

SafetensorsFolder::SafetensorsFolder(const fs::path& folder) {
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  std::error_code problem;  // what cannot be asked about fails with its reason when it is opened
  if (fs::exists(single, problem) || problem) {
    files_.push_back(std::make_unique<SafetensorsFile>(single));
    tensors_ = files_[0]->tensors();
    for (const auto& [name, entry] : tensors_) file_of_[name] = 0;
    return;
  }
  if (!fs::exists(index, problem) && !problem)
    fail(folder.string(), "model.safetensors or model.safetensors.index.json", "neither", "is this a Hugging Face model folder?");
  std::map<std::string, std::string> weight_map;
  const std::string text = read_file(index, kSafetensorsHeaderLimit);
  IndexEvents events(index.string(), weight_map);
  nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &events);
  if (!events.found()) fail(index.string() + ": weight_map", "to be there", "nothing");

  std::map<std::string, size_t> opened;
  std::vector<Fault> faults;
  for (const auto& [tensor, file] : weight_map) {
    auto place = opened.find(file);
    if (place == opened.end()) {
      files_.push_back(std::make_unique<SafetensorsFile>(folder / file));
      place = opened.emplace(file, files_.size() - 1).first;
    }
    const auto& inside = files_[place->second]->tensors();
    const auto found = inside.find(tensor);
    if (found == inside.end()) {
      if (faults.size() < 20) faults.push_back({index.string() + ": tensor '" + shown(tensor) + "'", "to be in " + shown(file), "nothing", ""});
      continue;
    }
    tensors_.emplace(tensor, found->second);
    file_of_[tensor] = place->second;
  }
  if (!faults.empty()) throw Error(faults);
  for (const auto& [file, number] : opened)
    for (const auto& [tensor, entry] : files_[number]->tensors()) {
      const auto mapped = weight_map.find(tensor);
      if (mapped == weight_map.end() || mapped->second != file)
        log_warn((folder / file).string() + ": tensor '" + shown(tensor) + "' is not in the index and is left out");
    }
}

std::span<const uint8_t> SafetensorsFolder::bytes(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) {
    std::vector<std::string> known;
    for (const auto& [tensor, file] : file_of_) known.push_back(tensor);
    const std::string near = nearest(name, known);
    fail("tensor '" + shown(name) + "'", "to be in the model's safetensors", "nothing", near.empty() ? "" : "did you mean '" + near + "'?");
  }
  return files_[found->second]->bytes(name);
}

void SafetensorsFolder::release(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found != file_of_.end()) files_[found->second]->release(name);
}

uint64_t SafetensorsFolder::total_bytes() const {
  uint64_t total = 0;
  for (const auto& [name, entry] : tensors_) total += entry.end - entry.begin;
  return total;
}

}  // namespace attar
