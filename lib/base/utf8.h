#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace attar {

/// Bytes of the well-formed UTF-8 sequence that begins at `at` (1 to 4; Unicode 15, table 3-7), 0 if there is none.
size_t utf8_length(std::string_view text, size_t at);
bool is_utf8(std::string_view text);
/// `text` as one printable line: line breaks and tabs become spaces, other control characters '?', invalid bytes U+FFFD.
std::string one_line(std::string_view text);

}  // namespace attar
