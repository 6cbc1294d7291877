#include "base/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "base/utf8.h"

namespace attar {

namespace {

constexpr size_t kDeepestYaml = 100;

/// Builds Nodes from the parser's events, refusing what would make a recipe mean something else than it seems to.
class StrictYamlBuilder : public YAML::EventHandler {
 public:
  StrictYamlBuilder(std::string_view text, const std::string& file, Node& root) : text_(text), file_(file), root_(root) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "one document", "a second one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    if (expects_key()) refuse(mark, "text as a key", "nothing, or null without quotes");
    Node node = at(mark, Node::Kind::null);
    if (!frames_.empty() && frames_.back().has_key) {
      // The parser's mark of a value left out is that of whatever follows.
      const Frame& frame = frames_.back();
      node.line = frame.lines.at(frame.node->entries.back().first);
      if (frame.block && line_of_text(node.line).find_first_of(":?") == std::string_view::npos) refuse(mark, "a ':' after every key", "none");
    }
    place(std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "values written out", "an alias (*)"); }
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override { refuse(mark, "values written out", "an anchor (&" + name + ")"); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    refuse_anchor(mark, anchor);
    const bool quoted = read_tag(mark, tag, "tag:yaml.org,2002:str");
    if (expects_key()) return take_key(mark, value, quoted);
    Node node = at(mark, Node::Kind::scalar);
    node.text = value;
    node.quoted = quoted;
    place(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    read_tag(mark, tag, "tag:yaml.org,2002:seq");
    open(mark, anchor, Node::Kind::list, false);
  }
  void OnSequenceEnd() override { frames_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value style) override {
    read_tag(mark, tag, "tag:yaml.org,2002:map");
    open(mark, anchor, Node::Kind::map, style == YAML::EmitterStyle::Block);
  }
  void OnMapEnd() override { frames_.pop_back(); }

 private:
  struct Frame {
    Node* node;
    bool block = false;  ///< a map written on lines of its own, not in braces
    bool has_key = false;
    std::unordered_map<std::string, int> lines;  ///< of the keys so far
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& expected, const std::string& received) const {
    fail(file_.empty() ? "line " + std::to_string(mark.line + 1) : file_ + ":" + std::to_string(mark.line + 1), expected, received);
  }
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) refuse(mark, "values written out", "an anchor (&)");
  }
  /// "?" plain and "!" quoted are the parser's own; true for what must be read as text.
  bool read_tag(const YAML::Mark& mark, const std::string& tag, const char* allowed) const {
    if (!tag.empty() && tag != "?" && tag != "!" && tag != allowed) refuse(mark, "no type tag", tag);
    return tag == "!" || tag == "tag:yaml.org,2002:str";
  }
  bool expects_key() const { return !frames_.empty() && frames_.back().node->is_map() && !frames_.back().has_key; }

  Node at(const YAML::Mark& mark, Node::Kind kind) const {
    Node node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.file = file_;
    return node;
  }
  void take_key(const YAML::Mark& mark, const std::string& key, bool quoted) {
    if (key == "<<" && !quoted) refuse(mark, "keys written out", "a merge key (<<)");
    Frame& frame = frames_.back();
    const auto [seen, added] = frame.lines.emplace(key, mark.line + 1);
    if (!added)
      refuse(mark, "key '" + key.substr(0, 80) + "' once in its map", "a second one; the first is in line " + std::to_string(seen->second));
    frame.node->entries.emplace_back(key, Node{});
    frame.has_key = true;
  }
  Node* place(Node&& node) {
    if (frames_.empty()) {
      root_ = std::move(node);
      return &root_;
    }
    Frame& frame = frames_.back();
    if (frame.node->is_list()) {
      frame.node->items.push_back(std::move(node));
      return &frame.node->items.back();
    }
    frame.has_key = false;
    frame.node->entries.back().second = std::move(node);
    return &frame.node->entries.back().second;
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor, Node::Kind kind, bool block) {
    refuse_anchor(mark, anchor);
    if (expects_key()) refuse(mark, "text as a key", kind == Node::Kind::map ? "a map, or a '{' never closed" : "a list, or a '[' never closed");
    if (frames_.size() >= kDeepestYaml) refuse(mark, "nesting of at most " + std::to_string(kDeepestYaml), "deeper");
    Node* node = place(at(mark, kind));
    frames_.push_back({node, block, false, {}});
  }

  /// One line of the source, counted from 1.
  std::string_view line_of_text(int line) {
    if (line_starts_.empty()) {
      line_starts_.push_back(0);
      for (size_t i = 0; i < text_.size(); ++i)
        if (text_[i] == '\n') line_starts_.push_back(i + 1);
    }
    if (line < 1 || static_cast<size_t>(line) > line_starts_.size()) return {};
    const size_t begin = line_starts_[static_cast<size_t>(line) - 1];
    return text_.substr(begin, text_.find('\n', begin) - begin);
  }

  std::string_view text_;
  std::vector<size_t> line_starts_;  ///< of the text, found when first needed
  const std::string& file_;
  Node& root_;
  std::vector<Frame> frames_;
  int documents_ = 0;
};

/// A command line has no lines.
void clear_places(Node& node) {
  node.line = 0;
  node.file.clear();
  for (Node& item : node.items) clear_places(item);
  for (auto& [key, item] : node.entries) clear_places(item);
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (const auto& [name, node] : entries)
    if (name == key) return &node;
  return nullptr;
}
Node* Node::find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).find(key)); }

std::string Node::place() const { return file.empty() ? "" : line > 0 ? file + ":" + std::to_string(line) : file; }

Node Node::scalar(std::string text, bool quoted) {
  Node node;
  node.kind = Kind::scalar;
  node.text = std::move(text);
  node.quoted = quoted;
  return node;
}

Node parse_yaml(std::string_view text, const std::string& name) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    if (length == 0 || text[at] == '\0')
      fail(name + ":" + std::to_string(1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n')), "text in UTF-8",
           length ? "a zero byte" : "other bytes");
    at += length;
  }
  Node root;
  root.file = name;
  // At the end of a file that ends its last line, the parser takes an open quote for closed; a comment without line end shows it.
  const std::string_view guard = text.ends_with('\n') ? "# end" : "";
  try {
    std::istringstream input{std::string(text) + std::string(guard)};
    YAML::Parser parser(input);
    StrictYamlBuilder builder(text, name, root);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& problem) {
    fail(name.empty() ? "line " + std::to_string(problem.mark.line + 1) : name + ":" + std::to_string(problem.mark.line + 1), "well-formed YAML",
         "", problem.msg);
  }
  return root;
}

Node read_yaml(const std::filesystem::path& file) {
  constexpr uint64_t kLargestYaml = uint64_t{16} << 20;
  const std::string text = read_file(file, kLargestYaml);
  return file.extension() == ".json" ? parse_json_nodes(text, file.string()) : parse_yaml(text, file.string());
}

void set_override(Node& root, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos) throw UsageError("'" + one_line(assignment) + "' is no assignment, expected key=value");
  std::string path = assignment.substr(0, equals);
  const auto refuse = [&](const std::string& why) { throw UsageError("cannot set '" + one_line(path) + "': " + why); };
  Node value;
  try {
    value = parse_yaml(assignment.substr(equals + 1), "");
  } catch (const Error& problem) {
    refuse(problem.faults().empty() ? problem.what() : problem.faults()[0].line());
  }
  clear_places(value);
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    parts.push_back(path.substr(begin, end - begin));
    if (parts.back().empty()) refuse("expected names between the dots");
    begin = end + 1;
  }
  if (parts.size() > kDeepestYaml) refuse("it is nested too deeply");
  Node* node = &root;
  for (const std::string& part : parts) {
    if (node->is_null()) node->kind = Node::Kind::map;
    if (node->is_list()) {
      size_t index = 0;
      const auto [end, problem] = std::from_chars(part.data(), part.data() + part.size(), index);
      if (problem != std::errc() || end != part.data() + part.size()) refuse("'" + one_line(part) + "' is no number of an item of the list there");
      if (index > node->items.size()) refuse("the list there has " + std::to_string(node->items.size()) + " items, counted from 0");
      if (index == node->items.size()) node->items.emplace_back();
      node = &node->items[index];
    } else if (node->is_map()) {
      Node* next = node->find(part);
      if (!next) next = &node->entries.emplace_back(part, Node{}).second;
      node = next;
    } else {
      refuse("there is '" + one_line(node->text.substr(0, 80)) + "' where '" + one_line(part) + "' should be found");
    }
  }
  *node = std::move(value);
}

}  // namespace attar
