#include "base/check.h"
#include "data/rows.h"

namespace attar {

std::string fill_template(const std::string& pattern, const std::map<std::string, std::string>& fields) {
  std::string out;
  out.reserve(pattern.size() + 256);
  for (size_t i = 0; i < pattern.size();) {
    if (pattern[i] != '{') {
      out += pattern[i++];
      continue;
    }
    if (i + 1 < pattern.size() && pattern[i + 1] == '{') {
      out += '{';
      i += 2;
      continue;
    }
    const size_t end = pattern.find('}', i);
    if (end == std::string::npos) fail("template '" + pattern + "'", "'}' after every '{'", "none", "write '{{' for a brace");
    const std::string name = pattern.substr(i + 1, end - i - 1);
    const auto found = fields.find(name);
    if (found == fields.end()) {
      std::vector<std::string> known;
      for (const auto& [field, value] : fields) known.push_back(field);
      fail("field '{" + name + "}' of template '" + pattern + "'", "a field of the row", "none of that name", nearest_hint(name, known));
    }
    out += found->second;
    i = end + 1;
  }
  return out;
}

}  // namespace attar
