#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace attar {

/// One word of a template.
struct JinjaToken {
  enum class Kind { data, output_begin, output_end, block_begin, block_end, name, text, integer, sign, end };
  Kind kind;
  std::string text;   ///< data and text: what it stands for, escapes undone
  int64_t integer = 0;
  int64_t line = 0;   ///< from 1
};

/// Cuts a template into words: trim_blocks and lstrip_blocks on, one final newline dropped, line breaks as \n, comments left out.
/// Error naming the line for what cannot be cut.
std::vector<JinjaToken> lex_jinja(std::string_view source);

}  // namespace attar
