#include <iterator>
#include <vector>

#include "base/json.h"
#include "base/yaml.h"

namespace attar {

namespace {

/// How far the JSON parser has read, kept outside because it copies its iterators.
struct JsonReading {
  const char* at;
  int line = 1;
};

/// Walks over the text and counts its lines.
class LineIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  LineIterator(const char* at, JsonReading* reading) : at_(at), reading_(reading) {}
  reference operator*() const { return *at_; }
  LineIterator& operator++() {
    if (*at_ == '\n') ++reading_->line;
    reading_->at = ++at_;
    return *this;
  }
  bool operator==(const LineIterator& other) const { return at_ == other.at_; }
  bool operator!=(const LineIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  JsonReading* reading_;
};

/// Notes the line of each value in the order of the text.
class LineCollector {
 public:
  LineCollector(const char* begin, const JsonReading& reading) : begin_(begin), reading_(reading) {}
  bool null() { return note(); }
  bool boolean(bool) { return note(); }
  bool number_integer(Json::number_integer_t) { return note_number(); }
  bool number_unsigned(Json::number_unsigned_t) { return note_number(); }
  bool number_float(Json::number_float_t, const std::string&) { return note_number(); }
  bool string(std::string&) { return note(); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return note(); }
  bool start_array(size_t) { return note(); }
  bool key(std::string&) { return true; }
  bool end_object() { return true; }
  bool end_array() { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) { return false; }
  const std::vector<int>& lines() const { return lines_; }

 private:
  bool note() {
    lines_.push_back(reading_.line);
    return true;
  }
  /// A number ends where something else begins, so one character more has been read.
  bool note_number() {
    const bool ended_line = reading_.at > begin_ && reading_.at[-1] == '\n';
    lines_.push_back(reading_.line - (ended_line ? 1 : 0));
    return true;
  }
  const char* begin_;
  const JsonReading& reading_;
  std::vector<int> lines_;
};

void set_places(Node& node, const std::string& file, const std::vector<int>& lines, size_t& next) {
  node.file = file;
  if (next < lines.size()) node.line = lines[next++];
  for (Node& item : node.items) set_places(item, file, lines, next);
  for (auto& [key, item] : node.entries) set_places(item, file, lines, next);
}

}  // namespace

Node parse_json_nodes(std::string_view text, const std::string& name) {
  Node root = from_json(parse_json(text, name));
  JsonReading reading{text.data()};
  LineCollector collector(text.data(), reading);
  Json::sax_parse(LineIterator(text.data(), &reading), LineIterator(text.data() + text.size(), &reading), &collector);
  size_t next = 0;
  set_places(root, name, collector.lines(), next);
  return root;
}

}  // namespace attar
