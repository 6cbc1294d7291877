#include "jinja/jinja_template.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "jinja/jinja_functions.h"
#include "jinja/jinja_parser.h"

namespace attar {
namespace {

using Type = JinjaValue::Kind;
using Node = JinjaExpression;
using NodeKind = JinjaExpression::Kind;
using Step = JinjaStatement::Kind;
constexpr size_t kMostBytes = size_t{64} << 20;       ///< of a text
constexpr int64_t kMostWork = int64_t{1} << 27, kStepWork = 64;  ///< in bytes copied, two million steps

/// Bytes that are looked at when a value is copied or compared.
int64_t weight(const JinjaValue& value) {
  switch (value.kind) {
    case Type::text: return static_cast<int64_t>(value.text().size());
    case Type::list: return static_cast<int64_t>(value.list().size()) * 16;
    case Type::map: return static_cast<int64_t>(value.map().size()) * 16;
    default: return 0;
  }
}

class JinjaRenderer {
 public:
  explicit JinjaRenderer(const JinjaValue& variables) : scopes_(1) {
    for (const auto& [name, value] : variables.map()) set(name, value);
  }

  std::string whole(const std::vector<JinjaStatement>& statements) {
    std::string out;
    run(statements, out);
    return out;
  }

 private:
  enum class Flow { on, leave, next };
  struct Loop {
    const JinjaValue::List* items;
    size_t at;
  };
  using Scope = std::vector<std::pair<std::string, JinjaValue>>;

  [[noreturn]] void refuse(int64_t line, const std::string& what, const std::string& expected, const std::string& received) const {
    fail(str("chat template, line ", line, ": ", what), expected, received);
  }

  void spend(int64_t work) {
    work_ += work;
    if (work_ > kMostWork) fail("chat template", "an end after a fair number of steps", "none so far");
  }

  static JinjaValue* find_in(Scope& scope, const std::string& name) {
    for (auto& [key, value] : scope)
      if (key == name) return &value;
    return nullptr;
  }
  JinjaValue* find(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (JinjaValue* found = find_in(*scope, name)) return found;
    return nullptr;
  }
  void set(const std::string& name, JinjaValue value) {
    if (JinjaValue* found = find_in(scopes_.back(), name)) *found = std::move(value);
    else scopes_.back().emplace_back(name, std::move(value));
  }

  void write(std::string& out, const std::string& text) {
    if (text.size() > kMostBytes - out.size()) fail("chat template", str("at most ", kMostBytes, " bytes of text"), "more");
    spend(static_cast<int64_t>(text.size()));
    out += text;
  }

  // ---- statements ----

  Flow run(const std::vector<JinjaStatement>& statements, std::string& out) {
    for (const JinjaStatement& statement : statements)
      if (const Flow flow = step(statement, out); flow != Flow::on) return flow;
    return Flow::on;
  }

  Flow step(const JinjaStatement& statement, std::string& out) {
    spend(kStepWork);
    switch (statement.kind) {
      case Step::data: write(out, statement.text); return Flow::on;
      case Step::output: write(out, jinja_print(value_of(*statement.value))); return Flow::on;
      case Step::choose:
        for (const auto& branch : statement.branches)
          if (!branch.test || jinja_truth(value_of(*branch.test))) return run(branch.body, out);
        return Flow::on;
      case Step::loop: loop(statement, out); return Flow::on;
      case Step::set: assign(statement); return Flow::on;
      case Step::set_block: {
        std::string text = apart(statement);
        set(statement.names[0], jinja_text(std::move(text)));
        return Flow::on;
      }
      case Step::block: write(out, apart(statement)); return Flow::on;
      case Step::leave: return Flow::leave;
      case Step::next: return Flow::next;
    }
    return Flow::on;
  }

  std::string apart(const JinjaStatement& statement) {
    std::string text;
    scopes_.emplace_back();
    run(statement.branches[0].body, text);
    scopes_.pop_back();
    return text;
  }

  void assign(const JinjaStatement& statement) {
    JinjaValue value = value_of(*statement.value);
    if (statement.names.size() == 1) return set(statement.names[0], std::move(value));
    const JinjaValue* space = find(statement.names[0]);
    if (!space || !space->is(Type::space)) refuse(statement.line, "{% set " + statement.names[0] + "." + statement.names[1] + " %}", "a namespace",
        space ? jinja_kind(*space) : "nothing of that name");
    Scope& values = spaces_[static_cast<size_t>(space->integer)];
    if (JinjaValue* found = find_in(values, statement.names[1])) *found = std::move(value);
    else values.emplace_back(statement.names[1], std::move(value));
  }

  void name_items(const JinjaStatement& statement, const JinjaValue& item) {
    if (statement.names.size() == 1) return set(statement.names[0], item);
    if (!item.is(Type::list) || item.list().size() != statement.names.size())
      refuse(statement.line, "{% for %}", str(statement.names.size(), " values in every item"), jinja_kind(item));
    for (size_t i = 0; i < statement.names.size(); ++i) set(statement.names[i], item.list()[i]);
  }

  void loop(const JinjaStatement& statement, std::string& out) {
    const JinjaValue over = value_of(*statement.value);
    spend(weight(over));
    JinjaValue::List items = jinja_items(over);
    if (statement.test) {
      JinjaValue::List kept;
      for (const JinjaValue& item : items) {
        scopes_.emplace_back();
        name_items(statement, item);
        if (jinja_truth(value_of(*statement.test))) kept.push_back(item);
        scopes_.pop_back();
      }
      items = std::move(kept);
    }
    loops_.push_back({&items, 0});
    for (size_t at = 0; at < items.size(); ++at) {
      spend(kStepWork);
      loops_.back().at = at;
      scopes_.emplace_back();
      name_items(statement, items[at]);
      const Flow flow = run(statement.branches[0].body, out);
      scopes_.pop_back();
      if (flow == Flow::leave) break;
    }
    loops_.pop_back();
    if (items.empty() && statement.branches.size() > 1) {
      scopes_.emplace_back();
      run(statement.branches[1].body, out);
      scopes_.pop_back();
    }
  }

  // ---- expressions ----

  JinjaValue value_of(const Node& node) {
    spend(kStepWork);
    switch (node.kind) {
      case NodeKind::literal: return node.value;
      case NodeKind::name: return named(node);
      case NodeKind::list: {
        JinjaValue::List items;
        for (const auto& part : node.parts) items.push_back(value_of(*part));
        return jinja_list(std::move(items));
      }
      case NodeKind::map: return map(node);
      case NodeKind::attribute: return attribute(node);
      case NodeKind::item: return item(node);
      case NodeKind::slice: return slice(node);
      case NodeKind::call: return call(node);
      case NodeKind::filter: {
        const JinjaValue value = value_of(*node.parts[0]);
        const JinjaArguments arguments = arguments_of(node);
        spend(weight(value));
        JinjaValue out = jinja_filter(node.name, value, arguments);
        spend(weight(out));
        return out;
      }
      case NodeKind::test: {
        const JinjaValue value = value_of(*node.parts[0]);
        return jinja_bool(jinja_test(node.name, value, arguments_of(node).given));
      }
      case NodeKind::negate: {
        const JinjaValue value = value_of(*node.parts[0]);
        if (!value.is(Type::integer) || value.integer == INT64_MIN) refuse(node.line, "-", "a whole number", jinja_kind(value));
        return jinja_int(-value.integer);
      }
      case NodeKind::inverse: return jinja_bool(!jinja_truth(value_of(*node.parts[0])));
      case NodeKind::binary: return binary(node);
      case NodeKind::compare: return compare(node);
      case NodeKind::choice:
        if (jinja_truth(value_of(*node.parts[1]))) return value_of(*node.parts[0]);
        return node.parts[2] ? value_of(*node.parts[2]) : jinja_undefined("if without else");
    }
    return {};
  }

  JinjaValue named(const Node& node) {
    if (node.name == "loop") refuse(node.line, "loop", "loop.index0, loop.first, loop.last or another of its values", "loop alone");
    if (const JinjaValue* found = find(node.name)) return *found;
    static const std::vector<std::string> kOthers = {"lipsum", "cycler", "joiner", "dict", "raise_exception", "namespace", "range"};
    if (std::find(kOthers.begin(), kOthers.end(), node.name) != kOthers.end())
      refuse(node.line, node.name, "a variable, or a call of raise_exception, namespace or range", node.name);
    return jinja_undefined(node.name);
  }

  JinjaValue map(const Node& node) {
    JinjaValue::Map items;
    for (size_t i = 0; i + 1 < node.parts.size(); i += 2) {
      const JinjaValue key = value_of(*node.parts[i]);
      if (!key.is(Type::text)) refuse(node.line, "{...}", "texts as keys", jinja_kind(key));
      JinjaValue value = value_of(*node.parts[i + 1]);
      const auto found = std::find_if(items.begin(), items.end(), [&](const auto& known) { return known.first == key.text(); });
      if (found != items.end()) found->second = std::move(value);
      else items.emplace_back(key.text(), std::move(value));
    }
    return jinja_map(std::move(items));
  }

  JinjaValue loop_value(const Node& node) {
    if (loops_.empty()) refuse(node.line, "loop." + node.name, "a loop around it", "none");
    const Loop& loop = loops_.back();
    const auto at = static_cast<int64_t>(loop.at), size = static_cast<int64_t>(loop.items->size());
    const std::string& name = node.name;
    if (name == "index") return jinja_int(at + 1);
    if (name == "index0") return jinja_int(at);
    if (name == "revindex") return jinja_int(size - at);
    if (name == "revindex0") return jinja_int(size - at - 1);
    if (name == "first") return jinja_bool(at == 0);
    if (name == "last") return jinja_bool(at + 1 == size);
    if (name == "length") return jinja_int(size);
    if (name == "previtem") return at > 0 ? (*loop.items)[loop.at - 1] : jinja_undefined("loop.previtem");
    if (name == "nextitem") return at + 1 < size ? (*loop.items)[loop.at + 1] : jinja_undefined("loop.nextitem");
    refuse(node.line, "loop." + name, "index, index0, revindex, revindex0, first, last, length, previtem or nextitem", name);
  }

  JinjaValue attribute(const Node& node) {
    if (node.parts[0]->kind == NodeKind::name && node.parts[0]->name == "loop") return loop_value(node);
    const JinjaValue object = value_of(*node.parts[0]);
    if (object.is(Type::undefined)) refuse(node.line, "." + node.name, "something that has it", jinja_kind(object));
    if (object.is(Type::space)) {
      const JinjaValue* found = find_in(spaces_[static_cast<size_t>(object.integer)], node.name);
      return found ? *found : jinja_undefined(node.name);
    }
    if (is_python_method(object, node.name) || node.name.starts_with("_")) refuse(node.line, "." + node.name, "a call of it", "its name alone");
    const JinjaValue* found = object.find(node.name);
    return found ? *found : jinja_undefined(node.name);
  }

  JinjaValue item(const Node& node) {
    const JinjaValue object = value_of(*node.parts[0]), key = value_of(*node.parts[1]);
    if (object.is(Type::undefined)) refuse(node.line, "[...]", "something that has items", jinja_kind(object));
    if (object.is(Type::map) && key.is(Type::text)) {
      spend(weight(object));
      if (const JinjaValue* found = object.find(key.text())) return *found;
      if (is_python_method(object, key.text()) || key.text().starts_with("_"))
        refuse(node.line, "[...]", "a key of the map", key.text().substr(0, 60));
      return jinja_undefined(key.text());
    }
    const bool number = key.is(Type::integer) || key.is(Type::boolean);
    if (number && (object.is(Type::list) || object.is(Type::text))) {
      const int64_t size = object.is(Type::list) ? static_cast<int64_t>(object.list().size()) : characters(object.text());
      if (object.is(Type::text)) spend(weight(object));
      const int64_t at = key.integer < 0 ? key.integer + size : key.integer;
      if (at < 0 || at >= size) return jinja_undefined("item " + std::to_string(key.integer));
      return object.is(Type::list) ? object.list()[static_cast<size_t>(at)] : jinja_text(std::string(character_range(object.text(), at, at + 1)));
    }
    if (key.is(Type::text) && (object.is(Type::space) || is_python_method(object, key.text()) || key.text().starts_with("_")))
      refuse(node.line, "[...]", "a key of a map or a number", key.text().substr(0, 60));
    return jinja_undefined(key.is(Type::text) ? key.text() : "item");
  }

  JinjaValue slice(const Node& node) {
    const JinjaValue object = value_of(*node.parts[0]);
    if (!object.is(Type::list) && !object.is(Type::text)) refuse(node.line, "[:]", "a list or text", jinja_kind(object));
    const int64_t size = object.is(Type::list) ? static_cast<int64_t>(object.list().size()) : characters(object.text());
    spend(weight(object));
    const auto bound = [&](size_t part) -> std::optional<int64_t> {
      if (!node.parts[part]) return std::nullopt;
      const JinjaValue value = value_of(*node.parts[part]);
      if (value.is(Type::none)) return std::nullopt;
      if (!value.is(Type::integer)) refuse(node.line, "[:]", "whole numbers", jinja_kind(value));
      return value.integer;
    };
    const auto first = bound(1), last = bound(2), step = bound(3);
    const int64_t by = step.value_or(1);
    if (by == 0 || by < -1000000 || by > 1000000) refuse(node.line, "[:]", "a step within a million, not 0", std::to_string(by));
    const auto inside = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + size : at, by > 0 ? 0 : -1, by > 0 ? size : size - 1); };
    const int64_t begin = first ? inside(*first) : by > 0 ? 0 : size - 1, end = last ? inside(*last) : by > 0 ? size : -1;
    if (object.is(Type::text)) {
      if (by != 1) refuse(node.line, "[:]", "a step of 1 in a text", std::to_string(by));
      return jinja_text(std::string(character_range(object.text(), begin, end)));
    }
    JinjaValue::List items;
    for (int64_t at = begin; by > 0 ? at < end : at > end; at += by) items.push_back(object.list()[static_cast<size_t>(at)]);
    return jinja_list(std::move(items));
  }

  JinjaArguments arguments_of(const Node& node) {
    JinjaArguments out;
    out.limit = kMostBytes;
    for (size_t i = 1; i < node.parts.size(); ++i) out.given.push_back(value_of(*node.parts[i]));
    for (const auto& [name, part] : node.named) out.named.emplace_back(name, value_of(*part));
    return out;
  }

  JinjaValue call(const Node& node) {
    const Node& callee = *node.parts[0];
    if (callee.kind == NodeKind::attribute && !(callee.parts[0]->kind == NodeKind::name && callee.parts[0]->name == "loop")) {
      const JinjaValue object = value_of(*callee.parts[0]);
      if (object.is(Type::undefined)) refuse(node.line, "." + callee.name + "()", "something that has it", jinja_kind(object));
      const JinjaArguments arguments = arguments_of(node);
      spend(weight(object));
      JinjaValue out = jinja_method(object, callee.name, arguments);
      spend(weight(out));
      return out;
    }
    const std::string name = callee.kind == NodeKind::name && !find(callee.name) ? callee.name : "";
    if (name != "raise_exception" && name != "namespace" && name != "range")
      refuse(node.line, "a call", "raise_exception, namespace, range or a method", name.empty() ? "another" : "'" + name + "', which is not given");
    const JinjaArguments arguments = arguments_of(node);
    if (name == "namespace") {
      if (!arguments.given.empty()) refuse(node.line, name, "named values", "others");
      Scope values;
      for (const auto& [key, value] : arguments.named) values.emplace_back(key, value);
      JinjaValue out = jinja_int(static_cast<int64_t>(spaces_.size()));
      out.kind = Type::space;
      spaces_.push_back(std::move(values));
      return out;
    }
    if (!arguments.named.empty() || arguments.given.empty()) refuse(node.line, name, "plain arguments", "others");
    if (name == "raise_exception")
      fail("this conversation", "one that the model's chat template takes", "its refusal: " + jinja_print(arguments.given[0]));
    return range(node, arguments.given);
  }

  JinjaValue range(const Node& node, const std::vector<JinjaValue>& given) {
    for (const JinjaValue& value : given)
      if (!value.is(Type::integer) || value.integer > 100000 || value.integer < -100000)
        refuse(node.line, "range", "whole numbers to 100000", "others");
    const int64_t begin = given.size() > 1 ? given[0].integer : 0, end = given.size() > 1 ? given[1].integer : given[0].integer;
    const int64_t by = given.size() > 2 ? given[2].integer : 1;
    if (by == 0 || given.size() > 3) refuse(node.line, "range", "one to three numbers, the last not 0", "others");
    JinjaValue::List items;
    for (int64_t at = begin; by > 0 ? at < end : at > end; at += by) items.push_back(jinja_int(at));
    spend(static_cast<int64_t>(items.size()) * kStepWork);
    return jinja_list(std::move(items));
  }

  JinjaValue binary(const Node& node) {
    JinjaValue left = value_of(*node.parts[0]);
    if (node.name == "and") return jinja_truth(left) ? value_of(*node.parts[1]) : left;
    if (node.name == "or") return jinja_truth(left) ? left : value_of(*node.parts[1]);
    const JinjaValue right = value_of(*node.parts[1]);
    if (node.name == "~") return concatenated(jinja_print(left), jinja_print(right));
    if (node.name == "+" && left.is(Type::text) && right.is(Type::text)) return concatenated(left.text(), right.text());
    if (node.name == "+" && left.is(Type::list) && right.is(Type::list)) {
      JinjaValue::List items = left.list();
      items.insert(items.end(), right.list().begin(), right.list().end());
      spend(static_cast<int64_t>(items.size()) * kStepWork);
      return jinja_list(std::move(items));
    }
    if (!left.is(Type::integer) || !right.is(Type::integer))
      refuse(node.line, node.name, "two texts or two lists (+), or two whole numbers", jinja_kind(left) + " and " + jinja_kind(right));
    return computed(node, left.integer, right.integer);
  }

  JinjaValue concatenated(const std::string& left, const std::string& right) {
    if (left.size() + right.size() > kMostBytes) fail("chat template", str("at most ", kMostBytes, " bytes of text"), "more");
    spend(static_cast<int64_t>(left.size() + right.size()));
    return jinja_text(left + right);
  }

  JinjaValue computed(const Node& node, int64_t left, int64_t right) const {
    int64_t out = 0;
    bool over = false;
    if (node.name == "+") over = __builtin_add_overflow(left, right, &out);
    else if (node.name == "-") over = __builtin_sub_overflow(left, right, &out);
    else if (node.name == "*") over = __builtin_mul_overflow(left, right, &out);
    else if (node.name == "/") refuse(node.line, "/", "// between whole numbers", "/");
    else if (right == 0 || (left == INT64_MIN && right == -1)) refuse(node.line, node.name, "another divisor", std::to_string(right));
    else {
      // Python rounds down.
      const int64_t rest = left % right, whole = left / right;
      const bool lower = rest != 0 && (rest < 0) != (right < 0);
      out = node.name == "%" ? rest + (lower ? right : 0) : whole - (lower ? 1 : 0);
    }
    if (over) refuse(node.line, node.name, "a number below 2^63", "more");
    return jinja_int(out);
  }

  JinjaValue compare(const Node& node) {
    JinjaValue left = value_of(*node.parts[0]);
    for (size_t i = 0; i < node.signs.size(); ++i) {
      JinjaValue right = value_of(*node.parts[i + 1]);
      spend(weight(left) + weight(right));
      if (!holds(node, node.signs[i], left, right)) return jinja_bool(false);
      left = std::move(right);
    }
    return jinja_bool(true);
  }

  bool holds(const Node& node, const std::string& sign, const JinjaValue& left, const JinjaValue& right) const {
    if (sign == "==") return jinja_equal(left, right);
    if (sign == "!=") return !jinja_equal(left, right);
    if (sign == "in") return jinja_contains(right, left);
    if (sign == "not in") return !jinja_contains(right, left);
    const bool numbers = left.number() && right.number(), texts = left.is(Type::text) && right.is(Type::text);
    if (!numbers && !texts) refuse(node.line, sign, "two numbers or two texts", jinja_kind(left) + " and " + jinja_kind(right));
    const int order = texts ? left.text().compare(right.text()) : left.as_real() < right.as_real() ? -1 : left.as_real() > right.as_real() ? 1 : 0;
    return sign == "<" ? order < 0 : sign == "<=" ? order <= 0 : sign == ">" ? order > 0 : order >= 0;
  }

  std::vector<Scope> scopes_;
  std::vector<Scope> spaces_;  ///< namespaces by number
  std::vector<Loop> loops_;
  int64_t work_ = 0;
};

}  // namespace

struct JinjaTemplate::Tree {
  std::vector<JinjaStatement> statements;
};

JinjaTemplate::JinjaTemplate(std::string_view source) : tree_(std::make_unique<const Tree>(Tree{parse_jinja(source)})) {}
JinjaTemplate::~JinjaTemplate() = default;

std::string JinjaTemplate::render(const JinjaValue& variables) const { return JinjaRenderer(variables).whole(tree_->statements); }

}  // namespace attar
