#pragma once
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace attar {

/// Joins its arguments through operator<<: str("layer ", 3).
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// One thing wrong in the user's world. `what` names the key, file or value; the rest may be empty.
struct Fault {
  std::string what, expected, received, hint;
  /// "what, expected E, received R, hint", always one line.
  std::string line() const;
};

/// The user's world is wrong: one or several faults (all those of a file are reported together). Exit code 1.
class Error : public std::runtime_error {
 public:
  explicit Error(Fault fault, std::source_location where = std::source_location::current());
  explicit Error(std::vector<Fault> faults, std::source_location where = std::source_location::current());
  const std::vector<Fault>& faults() const { return faults_; }
  const std::source_location& where() const { return where_; }

 private:
  std::vector<Fault> faults_;
  std::source_location where_;
};

/// Wrong words on the command line. Exit code 2.
class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws Error.
[[noreturn]] void fail(std::string what, std::string expected = "", std::string received = "", std::string hint = "",
                       std::source_location where = std::source_location::current());

/// Throws Error unless `held`. Arguments are built by the caller either way: on hot paths test first, then fail().
inline void check(bool held, const char* what, const char* expected = "", const std::string& received = "", const std::string& hint = "",
                  std::source_location where = std::source_location::current()) {
  if (!held) [[unlikely]]
    fail(what, expected, received, hint, where);
}
inline void check(bool held, const std::string& what, const std::string& expected = "", const std::string& received = "",
                  const std::string& hint = "", std::source_location where = std::source_location::current()) {
  if (!held) [[unlikely]]
    fail(what, expected, received, hint, where);
}

/// The known word nearest to `word` by edit distance, or "" when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& known);
/// "did you mean 'x'?" or, when nothing is near, "known: a, b, c".
std::string nearest_hint(const std::string& word, const std::vector<std::string>& known);

/// 1536 -> "1.5 KiB"; 1234567 -> "1.23 M"; 75 s -> "1m15s".
std::string human_bytes(double bytes);
std::string human_count(double count);
std::string human_seconds(double seconds);

}  // namespace attar
