#include "base/json.h"

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "base/utf8.h"

namespace attar {

namespace {

constexpr size_t kDeepestJson = 100;

/// Builds the value from the parser's events. nlohmann's own builder lets a later key of the same name win and nests without end.
class StrictJsonBuilder {
 public:
  StrictJsonBuilder(std::string_view text, const std::string& name, Json& root) : text_(text), name_(name), root_(root) {}

  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(Json::number_integer_t value) { return put(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return put(value); }
  bool number_float(Json::number_float_t value, const std::string&) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& key) {
    Frame& frame = frames_.back();
    auto& entries = members(*frame.value);
    // Few keys are looked through one by one; a set is made where there are many, as in a vocabulary.
    constexpr size_t kFew = 16;
    if (entries.size() == kFew && frame.seen.empty())
      for (const auto& entry : entries) frame.seen.insert(entry.first);
    const bool repeated = entries.size() < kFew
                              ? std::any_of(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == key; })
                              : !frame.seen.insert(key).second;
    if (repeated) fail(name_ + ": key '" + key.substr(0, 80) + "'", "once in its object", "twice");
    entries.emplace_back(std::move(key), nullptr);
    return true;
  }

  bool parse_error(size_t position, const std::string& token, const nlohmann::detail::exception& problem) {
    const size_t end = std::min(position, text_.size());
    const auto line = 1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(end ? end - 1 : 0), '\n');
    // The library's sentence is "[json...] parse error at line L, column C: REASON; last read: 'X'"; the place is ours to say.
    std::string reason = problem.what();
    if (const size_t colon = reason.find(": "); colon != std::string::npos) reason = reason.substr(colon + 2);
    if (const size_t read = reason.rfind("; last read"); read != std::string::npos) reason.resize(read);
    fail(name_ + ":" + std::to_string(line) + " (byte " + std::to_string(end) + ")", "well-formed JSON",
         token.empty() ? "" : "'" + token.substr(token.size() > 60 ? token.size() - 60 : 0) + "'", reason);
  }

 private:
  using Members = std::vector<std::pair<const std::string, Json>>;
  struct Frame {
    Json* value;
    std::unordered_set<std::string> seen;
  };

  /// The list behind an ordered object: appending there skips the object's own search for the key, which is linear.
  static Members& members(Json& object) { return object.get_ref<Json::object_t&>(); }

  Json* place(Json&& value) {
    if (frames_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *frames_.back().value;
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    Json& member = members(parent).back().second;
    member = std::move(value);
    return &member;
  }
  bool put(Json&& value) {
    place(std::move(value));
    return true;
  }
  bool open(Json&& empty) {
    if (frames_.size() >= kDeepestJson) fail(name_, "nesting of at most " + std::to_string(kDeepestJson), "deeper");
    Json* opened = place(std::move(empty));
    frames_.push_back({opened, {}});
    return true;
  }
  bool close() {
    frames_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& name_;
  Json& root_;
  std::vector<Frame> frames_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& name) {
  Json root;
  StrictJsonBuilder builder(text, name, root);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) fail(name, "well-formed JSON", "something else");
  return root;
}

Json read_json(const std::filesystem::path& file) { return parse_json(read_file(file), file.string()); }

void write_json(const std::filesystem::path& file, const Json& value) {
  write_file(file, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string to_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace attar
