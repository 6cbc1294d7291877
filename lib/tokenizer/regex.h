#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace attar {

/// A regular expression over UTF-8 text (PCRE2, compiled to machine code where that is possible), read as Oniguruma reads it:
/// \s is Unicode's White_Space, \w its letters, marks, digits and connectors, scripts are those of the Script property. Thread-safe.
class Regex {
 public:
  /// Error with `name` if the pattern does not compile.
  Regex(const std::string& pattern, const std::string& name);
  struct Match {
    size_t begin, end;
  };
  /// The first match that begins at `from` or later in `text`, which must be valid UTF-8. False if there is none.
  bool find(std::string_view text, size_t from, Match& match) const;
  /// Every character that the pattern could mean literally, escaped.
  static std::string escape(std::string_view literal);

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

/// `text` with every byte that is no part of well-formed UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace attar
