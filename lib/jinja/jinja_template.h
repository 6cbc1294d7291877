#pragma once
#include <memory>
#include <string>

#include "jinja/jinja_value.h"

namespace attar {

/// A Jinja2 template as chat templates are written: what transformers' environment renders (trim_blocks and lstrip_blocks on, no escaping), in the
/// part of the language that parse_jinja(), jinja_filter(), jinja_test() and jinja_method() know. Nothing is guessed: the rest is an Error that
/// names it. Made for templates of strangers: nesting, steps and output are bounded. Thread-safe.
class JinjaTemplate {
 public:
  /// Error naming line and construct.
  explicit JinjaTemplate(std::string_view source);
  ~JinjaTemplate();
  /// The text for these variables (a map). Functions: raise_exception(text), an Error with that text; namespace(...); range(...).
  std::string render(const JinjaValue& variables) const;

 private:
  struct Tree;
  std::unique_ptr<const Tree> tree_;
};

}  // namespace attar
