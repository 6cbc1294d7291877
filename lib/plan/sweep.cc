#include "plan/sweep.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/check.h"

namespace attar {
namespace {

constexpr size_t kMostStages = 2000;

/// One list of the sweep: the key that it sets in a stage, and a word for each value that stands in the ids.
struct Axis {
  std::string name, stage, key;
  std::vector<Node> values;
  std::vector<std::string> words;
};

std::string dashed_word(const Node& value) {
  std::string text = value.is_scalar() ? value.text : to_line(to_json(value));
  // Of a path the file's name is what people call it by.
  if (text.find('/') != std::string::npos || text.ends_with(".yaml") || text.ends_with(".gguf")) text = std::filesystem::path(text).stem().string();
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (plain) out += c;
    else if (!out.empty() && out.back() != '-') out += '-';
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.substr(0, 40);
}

/// Value of a dotted key; null pointer where it is not there.
Node* at_key(Node& map, const std::string& key) {
  Node* at = &map;
  for (size_t begin = 0; begin <= key.size() && at;) {
    const size_t end = std::min(key.find('.', begin), key.size());
    at = at->is_map() ? at->find(key.substr(begin, end - begin)) : nullptr;
    begin = end + 1;
  }
  return at;
}

void set_key(Node& map, const std::string& key, const Node& value) {
  Node* at = &map;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const std::string part = key.substr(begin, end - begin);
    if (!at->is_map()) *at = Node{}, at->kind = Node::Kind::map;
    if (!at->find(part)) at->entries.push_back({part, Node{}});
    at = at->find(part);
    begin = end + 1;
  }
  *at = value;
}

class SweepExpander {
 public:
  SweepExpander(Node& root, const ReferenceKeysOf& references, std::vector<Fault>& faults) : root_(root), references_(references), faults_(faults) {}

  std::map<std::string, SweptStage> expand() {
    Node* sweep = root_.find("sweep");
    if (!sweep) return {};
    Node lists = *sweep;
    std::erase_if(root_.entries, [](const auto& entry) { return entry.first == "sweep"; });
    stages_ = root_.find("stages");
    const size_t before = faults_.size();
    if (!lists.is_map() || lists.entries.empty()) fault("sweep", lists, "a map from STAGE.KEY to a list of values", lists.text);
    else if (stages_ && stages_->is_map()) read_axes(lists, "");
    if (faults_.size() > before || !stages_ || !stages_->is_map()) return {};
    reach();
    make_stages();
    if (faults_.size() > before) return {};
    gates();
    share_equal();
    return std::move(made_);
  }

 private:
  using Choice = std::map<size_t, size_t>;  ///< axis -> value, of the axes that reach a stage

  void fault(const std::string& what, const Node& at, std::string expected, std::string received, std::string hint = "") {
    faults_.push_back({what + (at.line ? " (" + at.place() + ")" : ""), std::move(expected), std::move(received), std::move(hint)});
  }

  /// Keys may be dotted or nested; a list ends the key.
  void read_axes(const Node& map, const std::string& prefix) {
    for (const auto& [key, value] : map.entries) {
      const std::string name = prefix.empty() ? key : prefix + "." + key;
      if (value.is_map()) {
        read_axes(value, name);
        continue;
      }
      const size_t dot = name.find('.');
      Axis axis{name, name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1), value.items, {}};
      std::vector<std::string> ids;
      for (const auto& [id, node] : stages_->entries) ids.push_back(id);
      if (!value.is_list() || value.items.empty()) fault("sweep." + name, value, "a list of values", value.is_list() ? "an empty one" : value.text);
      else if (!stages_->find(axis.stage)) fault("sweep." + name, value, "a key that begins with a stage", axis.stage, nearest_hint(axis.stage, ids));
      else if (axis.key.empty()) fault("sweep." + name, value, "a stage's key, as " + axis.stage + ".model", "a stage");
      else if (axis.key == "kind") fault("sweep." + name, value, "a stage's key, as " + axis.stage + ".model", "its kind");
      else if (!stages_->find(axis.stage)->is_map()) fault("stages." + axis.stage, value, "a map with kind, ...", "something else");
      else add_axis(std::move(axis), value);
    }
  }

  void add_axis(Axis axis, const Node& at) {
    std::set<std::string> seen;
    for (size_t i = 0; i < axis.values.size(); ++i) {
      const std::string text = to_line(to_json(axis.values[i]));
      if (!seen.insert(text).second) fault("sweep." + axis.name, at, "values that differ", text + " twice");
      std::string word = dashed_word(axis.values[i]);
      if (word.empty()) word = axis.values[i].is_scalar() && axis.values[i].text.empty() ? "default" : "v" + std::to_string(i + 1);
      if (std::find(axis.words.begin(), axis.words.end(), word) != axis.words.end()) word += "-" + std::to_string(i + 1);
      axis.words.push_back(std::move(word));
    }
    std::erase_if(axes_, [&](const Axis& other) { return other.name == axis.name; });
    axes_.push_back(std::move(axis));
  }

  std::string kind_of(const std::string& id) const {
    const Node* kind = stages_->find(id)->is_map() ? stages_->find(id)->find("kind") : nullptr;
    return kind ? kind->text : "";
  }

  /// Values of a stage that name other stages, with the node that holds each.
  std::vector<std::pair<std::string, Node*>> named_stages(const std::string& kind, Node& stage) const {
    std::vector<std::pair<std::string, Node*>> out;
    for (const std::string& key : references_(kind))
      if (Node* value = at_key(stage, key)) {
        if (value->is_scalar() && stages_->find(value->text)) out.push_back({key, value});
        if (value->is_list())
          for (Node& item : value->items) {
            Node* named = item.is_map() ? item.find("path") : &item;  // parts of a mixture of data
            if (named && named->is_scalar() && stages_->find(named->text)) out.push_back({key, named});
          }
      }
    return out;
  }

  /// Stages that the values of a stage's own axes name.
  std::vector<std::string> stages_of_axes(const std::string& id) const {
    std::vector<std::string> out;
    for (const std::string& key : references_(kind_of(id)))
      for (const Axis& axis : axes_)
        if (axis.stage == id && axis.key == key)
          for (const Node& value : axis.values)
            if (value.is_scalar() && stages_->find(value.text) && value.text != id) out.push_back(value.text);
    return out;
  }

  /// Which axes reach which stage: its own, those of what it reads. An evaluate stage gathers: none reaches it through `of`.
  void reach() {
    for (const auto& [id, node] : stages_->entries) {
      reached_[id];
      for (size_t a = 0; a < axes_.size(); ++a)
        if (axes_[a].stage == id) reached_[id].insert(a);
    }
    for (bool grew = true; grew;) {
      grew = false;
      for (auto& [id, node] : stages_->entries) {
        if (!node.is_map()) continue;
        for (const auto& [key, value] : named_stages(kind_of(id), node)) {
          if (kind_of(id) == "evaluate" && key == "of") continue;
          for (const size_t a : reached_[value->text]) grew = reached_[id].insert(a).second || grew;
        }
        for (const std::string& named : stages_of_axes(id))
          for (const size_t a : reached_[named]) grew = reached_[id].insert(a).second || grew;
      }
    }
    for (const auto& [id, node] : stages_->entries)
      if (kind_of(id) == "evaluate" && !reached_[id].empty())
        fault("stages." + id, node, "a base and keys that the sweep leaves as they are, so that all candidates stand in one table",
              "some that it changes");
  }

  std::vector<Choice> choices_of(const std::set<size_t>& axes) const {
    std::vector<Choice> out = {{}};
    for (const size_t a : axes) {
      std::vector<Choice> next;
      for (const Choice& choice : out)
        for (size_t v = 0; v < axes_[a].values.size() && next.size() <= kMostStages; ++v) {
          next.push_back(choice);
          next.back()[a] = v;
        }
      out = std::move(next);
    }
    return out;
  }

  /// Id of what became of a stage under a choice (of more axes than reach it).
  std::string id_of(const std::string& stage, const Choice& choice) const {
    std::string out = stage;
    for (const size_t a : reached_.at(stage)) out += "-" + axes_[a].words[choice.at(a)];
    return out;
  }

  void make_stages() {
    std::vector<std::pair<std::string, Node>> out;
    std::set<std::string> ids;
    for (const auto& [id, node] : stages_->entries) {
      for (const Choice& choice : choices_of(reached_[id])) {
        Node copy = node;
        for (const auto& [a, v] : choice)
          if (axes_[a].stage == id) set_key(copy, axes_[a].key, axes_[a].values[v]);
        if (copy.is_map()) rewrite(id, copy, choice);
        const std::string made = id_of(id, choice);
        if (!ids.insert(made).second) fault("sweep", node, "stages of different names", made + " twice", "rename a stage");
        if (!choice.empty()) {
          SweptStage swept{id, Json::object()};
          for (const auto& [a, v] : choice) swept.values[axes_[a].name] = to_json(axes_[a].values[v]);
          made_[made] = std::move(swept);
        }
        out.push_back({made, std::move(copy)});
      }
      if (out.size() > kMostStages) return fault("sweep", node, str("at most ", kMostStages, " stages"), "more", "sweep over less at once");
    }
    stages_->entries = std::move(out);
  }

  /// Names of stages become names of what became of them.
  void rewrite(const std::string& id, Node& stage, const Choice& choice) {
    const std::string kind = kind_of(id);
    for (const auto& [key, value] : named_stages(kind, stage)) {
      if (kind == "evaluate" && key == "of") continue;
      bool known = true;
      for (const size_t a : reached_.at(value->text)) known = known && choice.count(a);
      if (known) value->text = id_of(value->text, choice);
      else fault("sweep: " + id + "." + key, *value, "a stage that no other axis changes", value->text);
    }
    if (kind != "evaluate") return;
    Node* of = stage.find("of");
    if (!of) return;
    std::vector<Node> all;
    for (const Node& item : of->is_list() ? of->items : std::vector<Node>{*of}) {
      if (!item.is_scalar() || !reached_.count(item.text)) {
        all.push_back(item);
        continue;
      }
      for (const Choice& each : choices_of(reached_.at(item.text))) {
        all.push_back(item);
        all.back().text = id_of(item.text, each);
      }
    }
    of->kind = Node::Kind::list;
    of->items = std::move(all);
  }

  /// A gate on a swept stage becomes one on each of its candidates, `within.of` being what became of that stage under the same values.
  void gates() {
    Node* gates = root_.find("gates");
    if (!gates || !gates->is_map()) return;
    std::vector<std::pair<std::string, Node>> out;
    for (const auto& [path, node] : gates->entries) {
      const size_t dot = std::min(path.find('.'), path.size());
      const std::string id = path.substr(0, dot);
      if (!reached_.count(id)) {
        out.push_back({path, node});
        continue;
      }
      for (const Choice& choice : choices_of(reached_.at(id))) {
        Node copy = node;
        if (Node* of = at_key(copy, "within.of"); of && reached_.count(of->text)) {
          bool known = true;
          for (const size_t a : reached_.at(of->text)) known = known && choice.count(a);
          if (known) of->text = id_of(of->text, choice);
          else if (choice == Choice() || choice == choices_of(reached_.at(id)).front())
            fault("gates." + path + ".within.of", *of, "a stage that differs by no other values than " + id, of->text);
        }
        out.push_back({id_of(id, choice) + path.substr(dot), std::move(copy)});
      }
    }
    gates->entries = std::move(out);
  }

  /// Two that became of one stage and say the same are one: an axis that names stages brings in values that some of them never use.
  void share_equal() {
    for (bool merged = true; merged;) {
      merged = false;
      std::map<std::string, std::string> first, same;  // what a stage says -> its id; id -> the id that stands for it
      for (const auto& [id, node] : stages_->entries) {
        const auto swept = made_.find(id);
        if (swept == made_.end()) continue;
        const auto [it, fresh] = first.try_emplace(swept->second.stage + "\n" + to_line(to_json(node)), id);
        if (!fresh) same[id] = it->second;
      }
      for (const auto& [id, kept] : same) {
        merged = true;
        Json common = Json::object();
        for (const auto& [axis, value] : made_[kept].values.items())
          if (made_[id].values.contains(axis) && made_[id].values[axis] == value) common[axis] = value;
        made_[kept].values = std::move(common);
        made_.erase(id);
      }
      std::erase_if(stages_->entries, [&](const auto& entry) { return same.count(entry.first) > 0; });
      for (auto& [id, node] : stages_->entries) {
        const Node* kind = node.find("kind");
        for (const std::string& key : references_(kind ? kind->text : ""))
          if (Node* value = at_key(node, key)) rename(*value, same);
      }
      if (Node* gates = root_.find("gates"); gates && gates->is_map())
        std::erase_if(gates->entries, [&](const auto& gate) { return same.count(gate.first.substr(0, gate.first.find('.'))) > 0; });
    }
  }

  static void rename(Node& value, const std::map<std::string, std::string>& same) {
    if (value.is_scalar() && same.count(value.text)) value.text = same.at(value.text);
    if (!value.is_list()) return;
    std::set<std::string> seen;
    for (Node& item : value.items)
      if (item.is_scalar() && same.count(item.text)) item.text = same.at(item.text);
    std::erase_if(value.items, [&](const Node& item) { return item.is_scalar() && !seen.insert(item.text).second; });
  }

  Node& root_;
  const ReferenceKeysOf& references_;
  std::vector<Fault>& faults_;
  Node* stages_ = nullptr;
  std::vector<Axis> axes_;
  std::map<std::string, std::set<size_t>> reached_;
  std::map<std::string, SweptStage> made_;
};

}  // namespace

std::map<std::string, SweptStage> expand_sweep(Node& root, const ReferenceKeysOf& references, std::vector<Fault>& faults) {
  return SweepExpander(root, references, faults).expand();
}

}  // namespace attar
