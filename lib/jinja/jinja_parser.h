#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/jinja_value.h"

namespace attar {

/// An expression of a template. `name`: variable, attribute, filter, test or sign.
struct JinjaExpression {
  enum class Kind {
    literal,    ///< value
    name,
    list,       ///< parts
    map,        ///< parts: key, value, key, value, ...
    attribute,  ///< parts[0].name
    item,       ///< parts[0][parts[1]]
    slice,      ///< parts[0][parts[1]:parts[2]:parts[3]]; a null part is absent
    call,       ///< parts[0](parts[1] ..., named)
    filter,     ///< parts[0] | name(parts[1] ..., named)
    test,       ///< parts[0] is name(parts[1] ...)
    negate,     ///< -parts[0]
    inverse,    ///< not parts[0]
    binary,     ///< parts[0] name parts[1], with and, or, +, -, *, /, //, %, ~
    compare,    ///< parts[0] signs[0] parts[1] signs[1] parts[2] ...
    choice,     ///< parts[0] if parts[1] else parts[2] (null: undefined)
  };
  Kind kind = Kind::literal;
  int64_t line = 0;
  std::string name;
  JinjaValue value;
  std::vector<std::unique_ptr<JinjaExpression>> parts;
  std::vector<std::pair<std::string, std::unique_ptr<JinjaExpression>>> named;
  std::vector<std::string> signs;
};

/// A statement of a template.
struct JinjaStatement {
  enum class Kind {
    data,      ///< text as it is
    output,    ///< {{ value }}
    choose,    ///< branches in order, the last one's test may be null (else)
    loop,      ///< for names in value if test: branches[0]; branches[1], where there is one: else
    set,       ///< names[0] = value, or names[0].names[1] = value
    set_block, ///< names[0] = what branches[0] writes
    block,     ///< branches[0] as it is ({% generation %})
    leave,     ///< break
    next,      ///< continue
  };
  struct Branch;
  Kind kind = Kind::data;
  int64_t line = 0;
  std::string text;
  std::vector<std::string> names;
  std::unique_ptr<JinjaExpression> value, test;
  std::vector<Branch> branches;
};

struct JinjaStatement::Branch {
  std::unique_ptr<JinjaExpression> test;
  std::vector<JinjaStatement> body;
};

/// The part of Jinja2 that chat templates use: text, output, if, for, set, break, continue, generation. Error naming line and construct for the
/// rest of it (macro, include, filter blocks, raw, ...), for nesting deeper than 200 and for what is no template.
std::vector<JinjaStatement> parse_jinja(std::string_view source);

}  // namespace attar
