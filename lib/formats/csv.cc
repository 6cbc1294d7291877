#include <set>

#include "base/check.h"
#include "formats/cursor.h"
#include "formats/text_lines.h"

namespace attar {
namespace {

constexpr size_t kCsvRecordLimit = size_t{1} << 30;

}  // namespace

CsvReader::CsvReader(const fs::path& path) : lines_(path), name_(path.string()) {
  if (!record(columns_)) fail(name_, "a row with the columns' names", "an empty file");
  if (columns_[0].starts_with("\xef\xbb\xbf")) columns_[0].erase(0, 3);  // the byte-order mark that spreadsheets put in front
  std::set<std::string> names;
  for (const auto& column : columns_)
    if (!names.insert(column).second) fail(name_ + ": column '" + shown(column) + "'", "a name of its own", "one that is taken");
}

bool CsvReader::next(std::vector<std::string>& row) {
  if (!record(row)) return false;
  if (row.size() != columns_.size())
    fail(str(name_, ":", line_), str(columns_.size(), " fields, as the first row has"), std::to_string(row.size()),
         "a field with a comma, a quote or a line break must be quoted");
  return true;
}

bool CsvReader::record(std::vector<std::string>& row) {
  std::string line;
  row.clear();
  // An empty line is no row, unless it can be one: a single, empty field.
  do {
    if (!lines_.next(line)) return false;
    line_ = lines_.number();
  } while ((line.empty() || line == "\r") && columns_.size() != 1);

  std::string field;
  bool quoted = false, closed = false;  // closed: after the closing quote of a field
  size_t total = 0;
  while (true) {
    if ((total += line.size() + 1) > kCsvRecordLimit) fail(str(name_, ":", line_), "rows of at most 1 GiB", "a longer one", "is a quote left open?");
    const bool carriage = !line.empty() && line.back() == '\r';
    for (size_t i = 0; i < line.size(); ++i) {
      const char c = line[i];
      if (quoted) {
        if (c != '"') {
          field += c;
        } else if (i + 1 < line.size() && line[i + 1] == '"') {
          field += '"';
          ++i;
        } else {
          quoted = false;
          closed = true;
        }
      } else if (c == ',') {
        row.push_back(std::move(field));
        field.clear();
        closed = false;
      } else if (carriage && i + 1 == line.size()) {
        break;
      } else if (closed) {
        fail(str(name_, ":", lines_.number()), "a comma or the row's end after a closing quote", "more text", "quotes inside a field are doubled");
      } else if (c == '"') {
        if (!field.empty())
          fail(str(name_, ":", lines_.number()), "quotes around the whole field", "a quote inside it", "quotes inside a field are doubled");
        quoted = true;
      } else {
        field += c;
      }
    }
    if (!quoted) break;
    field += '\n';
    if (!lines_.next(line)) fail(str(name_, ":", line_), "a closing quote", "the end of the file");
  }
  row.push_back(std::move(field));
  return true;
}

}  // namespace attar
