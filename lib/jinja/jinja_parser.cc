#include "jinja/jinja_parser.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"
#include "jinja/jinja_lexer.h"

namespace attar {
namespace {

using Word = JinjaToken::Kind;
using Shape = JinjaExpression::Kind;
using Tree = std::unique_ptr<JinjaExpression>;
using Doing = JinjaStatement::Kind;
constexpr int kDeepestNesting = 200, kMostNodes = 2000;

class JinjaParser {
 public:
  explicit JinjaParser(std::string_view source) {
    if (!is_utf8(source)) fail("chat template", "UTF-8", "other bytes");
    tokens_ = lex_jinja(source);
  }

  std::vector<JinjaStatement> whole() {
    std::vector<JinjaStatement> out = body({});
    if (now().kind != Word::end) refuse("end of a block", "its beginning before it", "none");
    return out;
  }

 private:
  /// Keeps count of what lies inside what: the parser calls itself.
  class Deeper {
   public:
    explicit Deeper(JinjaParser& parser) : parser_(parser) {
      if (++parser_.depth_ > kDeepestNesting) parser_.refuse("nesting", str("at most ", kDeepestNesting, " deep"), "more");
    }
    ~Deeper() { --parser_.depth_; }

   private:
    JinjaParser& parser_;
  };

  const JinjaToken& now() const { return tokens_[at_]; }
  const JinjaToken& after() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  JinjaToken take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool sees(std::string_view sign) const { return now().kind == Word::sign && now().text == sign; }
  bool sees_name(std::string_view name) const { return now().kind == Word::name && now().text == name; }
  bool skip(std::string_view sign) { return sees(sign) && (take(), true); }
  bool skip_name(std::string_view name) { return sees_name(name) && (take(), true); }

  [[noreturn]] void refuse(const std::string& what, const std::string& expected, const std::string& received, const std::string& hint = "") const {
    fail(str("chat template, line ", now().line, ": ", what), expected, received, hint);
  }
  std::string seen() const {
    switch (now().kind) {
      case Word::name:
      case Word::sign: return "'" + now().text + "'";
      case Word::text: return "a text";
      case Word::integer: return "a number";
      case Word::end: return "the template's end";
      default: return "the tag's end";
    }
  }
  void need(std::string_view sign) {
    if (!skip(sign)) refuse("a tag", "'" + std::string(sign) + "'", seen());
  }
  std::string need_name(const std::string& what) {
    if (now().kind != Word::name) refuse(what, "a name", seen());
    return take().text;
  }
  void need_end() {
    if (now().kind != Word::block_end) refuse("a block tag", "its end", seen());
    take();
  }

  /// Trees are at most as deep as they have nodes: who walks them calls itself.
  Tree make(Shape kind, std::string name = "") {
    if (++nodes_ > kMostNodes) refuse("a tag", str("at most ", kMostNodes, " operations and values"), "more");
    auto out = std::make_unique<JinjaExpression>();
    out->kind = kind;
    out->line = now().line;
    out->name = std::move(name);
    return out;
  }
  Tree join(Shape kind, std::string name, Tree a, Tree b) {
    Tree out = make(kind, std::move(name));
    out->parts.push_back(std::move(a));
    out->parts.push_back(std::move(b));
    return out;
  }

  // ---- statements ----

  /// Until a block tag that begins with one of `ends`, which is left to the caller (after its "{%"), or the template's end.
  std::vector<JinjaStatement> body(const std::vector<std::string>& ends) {
    const Deeper deeper(*this);
    std::vector<JinjaStatement> out;
    for (;;) {
      if (now().kind == Word::end) {
        if (!ends.empty()) refuse("a block", "{% " + ends.back() + " %} after it", "the template's end");
        return out;
      }
      if (now().kind == Word::block_begin && after().kind == Word::name && std::find(ends.begin(), ends.end(), after().text) != ends.end()) {
        take();
        return out;
      }
      out.push_back(statement());
    }
  }

  /// A body with variables of its own; a loop around it cannot be left from there.
  std::vector<JinjaStatement> apart(const std::string& end) {
    const int around = std::exchange(loops_, 0);
    std::vector<JinjaStatement> out = body({end});
    loops_ = around;
    take();
    need_end();
    return out;
  }

  JinjaStatement begin(Doing kind) const {
    JinjaStatement out;
    out.kind = kind;
    out.line = now().line;
    return out;
  }

  JinjaStatement statement() {
    nodes_ = 0;
    if (now().kind == Word::data) {
      JinjaStatement out = begin(Doing::data);
      out.text = take().text;
      return out;
    }
    if (now().kind == Word::output_begin) {
      take();
      JinjaStatement out = begin(Doing::output);
      out.value = tuple();
      if (now().kind != Word::output_end) refuse("{{", "}} after the expression", seen());
      take();
      return out;
    }
    if (now().kind != Word::block_begin) refuse("template", "text or a tag", seen());
    take();
    const std::string name = need_name("{%");
    if (name == "if") return choose();
    if (name == "for") return loop();
    if (name == "set") return set();
    if (name == "break" || name == "continue") {
      if (loops_ == 0) refuse("{% " + name + " %}", "to stand in a loop", "outside of one");
      JinjaStatement out = begin(name == "break" ? Doing::leave : Doing::next);
      need_end();
      return out;
    }
    if (name == "generation") {
      JinjaStatement out = begin(Doing::block);
      need_end();
      out.branches.push_back({nullptr, apart("endgeneration")});
      return out;
    }
    refuse("{% " + name.substr(0, 60) + " %}", "if, for, set, break, continue or generation: the tags that attar renders", name.substr(0, 60));
  }

  JinjaStatement choose() {
    JinjaStatement out = begin(Doing::choose);
    out.branches.push_back({expression(), {}});
    need_end();
    for (;;) {
      out.branches.back().body = body({"elif", "else", "endif"});
      const std::string end = take().text;
      nodes_ = 0;
      if (end == "elif" && out.branches.back().test) out.branches.push_back({expression(), {}});
      else if (end == "else" && out.branches.back().test) out.branches.push_back({nullptr, {}});
      else if (end != "endif") refuse("{% " + end + " %}", "{% endif %} after else", end);
      need_end();
      if (end == "endif") return out;
    }
  }

  JinjaStatement loop() {
    JinjaStatement out = begin(Doing::loop);
    const bool bracket = skip("(");
    do out.names.push_back(target());
    while (skip(","));
    if (bracket) need(")");
    if (!skip_name("in")) refuse("{% for %}", "'in' after its names", seen());
    out.value = logic_or();
    if (sees(",")) refuse("{% for %}", "one list", "several");
    if (skip_name("if")) out.test = expression();
    if (sees_name("recursive")) refuse("{% for %}", "no recursion", "recursive");
    need_end();
    ++loops_;
    out.branches.push_back({nullptr, body({"else", "endfor"})});
    --loops_;
    if (take().text == "else") {
      need_end();
      out.branches.push_back({nullptr, body({"endfor"})});
      take();
    }
    need_end();
    return out;
  }

  std::string target() {
    const std::string name = need_name("a variable that is set");
    static const std::vector<std::string> kFixed = {"true", "false", "none", "True", "False", "None", "loop", "not", "and", "or", "in", "is", "if", "else"};
    if (std::find(kFixed.begin(), kFixed.end(), name) != kFixed.end()) refuse("a variable that is set", "another name", name);
    return name;
  }

  JinjaStatement set() {
    JinjaStatement out = begin(Doing::set);
    out.names.push_back(target());
    if (skip(".")) out.names.push_back(need_name("{% set %}"));
    if (now().kind == Word::block_end && out.names.size() == 1) {
      out.kind = Doing::set_block;
      need_end();
      out.branches.push_back({nullptr, apart("endset")});
      return out;
    }
    if (!sees("=")) refuse("{% set %}", "name = value", seen());
    take();
    out.value = tuple();
    need_end();
    return out;
  }

  // ---- expressions, loosest first ----

  Tree tuple() {
    Tree first = expression();
    if (!sees(",")) return first;
    Tree out = make(Shape::list);
    out->parts.push_back(std::move(first));
    while (skip(",")) {
      if (now().kind == Word::block_end || now().kind == Word::output_end) break;
      out->parts.push_back(expression());
    }
    return out;
  }

  Tree expression() {
    const Deeper deeper(*this);
    Tree out = logic_or();
    while (skip_name("if")) {
      Tree test = logic_or();
      Tree other = skip_name("else") ? expression() : nullptr;
      out = join(Shape::choice, "", std::move(out), std::move(test));
      out->parts.push_back(std::move(other));
    }
    return out;
  }

  Tree logic_or() {
    Tree out = logic_and();
    while (skip_name("or")) out = join(Shape::binary, "or", std::move(out), logic_and());
    return out;
  }

  Tree logic_and() {
    Tree out = logic_not();
    while (skip_name("and")) out = join(Shape::binary, "and", std::move(out), logic_not());
    return out;
  }

  Tree logic_not() {
    if (!skip_name("not")) return comparison();
    const Deeper deeper(*this);
    Tree out = make(Shape::inverse);
    out->parts.push_back(logic_not());
    return out;
  }

  Tree comparison() {
    Tree first = sum();
    Tree out;
    for (;;) {
      std::string sign;
      for (const char* known : {"==", "!=", "<=", ">=", "<", ">"})
        if (sign.empty() && skip(known)) sign = known;
      if (sign.empty() && skip_name("in")) sign = "in";
      if (sign.empty() && sees_name("not") && after().kind == Word::name && after().text == "in") {
        take();
        take();
        sign = "not in";
      }
      if (sign.empty()) return out ? std::move(out) : std::move(first);
      if (!out) {
        out = make(Shape::compare);
        out->parts.push_back(std::move(first));
      }
      out->signs.push_back(sign);
      out->parts.push_back(sum());
    }
  }

  Tree sum() {
    Tree out = joined();
    while (sees("+") || sees("-")) {
      const std::string sign = take().text;
      out = join(Shape::binary, sign, std::move(out), joined());
    }
    return out;
  }

  Tree joined() {
    Tree out = product();
    while (skip("~")) out = join(Shape::binary, "~", std::move(out), product());
    return out;
  }

  Tree product() {
    Tree out = unary(true);
    while (sees("*") || sees("/") || sees("//") || sees("%")) {
      const std::string sign = take().text;
      out = join(Shape::binary, sign, std::move(out), unary(true));
    }
    if (sees("**")) refuse("an expression", "no powers", "**");
    return out;
  }

  Tree unary(bool filters) {
    const Deeper deeper(*this);
    Tree out;
    if (skip("-")) {
      out = make(Shape::negate);
      out->parts.push_back(unary(false));
    } else if (sees("+")) {
      refuse("an expression", "no + before a value", "+");
    } else {
      out = primary();
    }
    out = postfix(std::move(out));
    return filters ? filtered(std::move(out)) : std::move(out);
  }

  Tree literal(JinjaValue value) {
    Tree out = make(Shape::literal);
    out->value = std::move(value);
    return out;
  }

  Tree primary() {
    const Deeper deeper(*this);
    if (now().kind == Word::name) {
      const std::string name = take().text;
      if (name == "true" || name == "True") return literal(jinja_bool(true));
      if (name == "false" || name == "False") return literal(jinja_bool(false));
      if (name == "none" || name == "None") return literal(jinja_none());
      return make(Shape::name, name);
    }
    if (now().kind == Word::text) {
      std::string text;
      while (now().kind == Word::text) text += take().text;
      return literal(jinja_text(std::move(text)));
    }
    if (now().kind == Word::integer) return literal(jinja_int(take().integer));
    if (skip("(")) {
      if (skip(")")) return make(Shape::list);
      Tree out = expression();
      if (sees(",")) {
        Tree several = make(Shape::list);
        several->parts.push_back(std::move(out));
        while (skip(","))
          if (!sees(")")) several->parts.push_back(expression());
        out = std::move(several);
      }
      need(")");
      return out;
    }
    if (skip("[")) {
      Tree out = make(Shape::list);
      while (!sees("]")) {
        out->parts.push_back(expression());
        if (!skip(",")) break;
      }
      need("]");
      return out;
    }
    if (skip("{")) {
      Tree out = make(Shape::map);
      while (!sees("}")) {
        out->parts.push_back(expression());
        need(":");
        out->parts.push_back(expression());
        if (!skip(",")) break;
      }
      need("}");
      return out;
    }
    refuse("an expression", "a value", seen());
  }

  Tree postfix(Tree out) {
    for (;;) {
      if (skip(".")) {
        if (now().kind == Word::integer) refuse("an expression", "a name after '.'", "a number");
        Tree next = make(Shape::attribute, need_name("'.'"));
        next->parts.push_back(std::move(out));
        out = std::move(next);
      } else if (skip("[")) {
        out = subscript(std::move(out));
      } else if (sees("(")) {
        Tree next = make(Shape::call);
        next->parts.push_back(std::move(out));
        arguments(*next);
        out = std::move(next);
      } else {
        return out;
      }
    }
  }

  Tree subscript(Tree object) {
    std::vector<Tree> parts(1);
    bool slice = false;
    while (!sees("]")) {
      if (skip(":")) {
        slice = true;
        parts.emplace_back();
        if (parts.size() > 3) refuse("[...]", "at most two ':'", "more");
      } else {
        if (parts.back()) refuse("[...]", "']' or ':'", seen());
        parts.back() = expression();
      }
    }
    need("]");
    if (!slice && !parts[0]) refuse("[...]", "an index", "nothing");
    Tree out = make(slice ? Shape::slice : Shape::item);
    parts.resize(slice ? 3 : 1);
    out->parts.push_back(std::move(object));
    for (Tree& part : parts) out->parts.push_back(std::move(part));
    return out;
  }

  void arguments(JinjaExpression& call) {
    need("(");
    while (!sees(")")) {
      if (now().kind == Word::name && after().kind == Word::sign && after().text == "=") {
        const std::string name = take().text;
        take();
        call.named.emplace_back(name, expression());
      } else if (sees("*") || sees("**") || !call.named.empty()) {
        refuse("arguments", "plain ones, then named ones", seen());
      } else {
        call.parts.push_back(expression());
      }
      if (!skip(",")) break;
    }
    need(")");
  }

  Tree filtered(Tree out) {
    for (;;) {
      if (skip("|")) {
        Tree next = make(Shape::filter, need_name("'|'"));
        next->parts.push_back(std::move(out));
        if (sees("(")) arguments(*next);
        out = std::move(next);
      } else if (skip_name("is")) {
        out = test(std::move(out));
      } else if (sees("(")) {
        refuse("an expression", "no call of a filter's result", "'('");
      } else {
        return out;
      }
    }
  }

  Tree test(Tree object) {
    const bool negative = skip_name("not");
    Tree out = make(Shape::test, need_name("'is'"));
    out->parts.push_back(std::move(object));
    if (sees("(")) {
      arguments(*out);
    } else if (sees("[") || sees("{") || now().kind == Word::text || now().kind == Word::integer ||
               (now().kind == Word::name && now().text != "else" && now().text != "or" && now().text != "and")) {
      if (sees_name("is") || sees_name("if") || sees_name("in") || sees_name("not")) refuse("'is'", "brackets around a test before " + seen(), "none");
      out->parts.push_back(postfix(primary()));
    }
    if (!out->named.empty()) refuse("'is'", "no named argument", out->named[0].first);
    if (!negative) return out;
    Tree opposite = make(Shape::inverse);
    opposite->parts.push_back(std::move(out));
    return opposite;
  }

  std::vector<JinjaToken> tokens_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0, nodes_ = 0;
};

}  // namespace

std::vector<JinjaStatement> parse_jinja(std::string_view source) { return JinjaParser(source).whole(); }

}  // namespace attar
