#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "formats/text_lines.h"

namespace attar {

/// One row of a .jsonl or .csv file: fields by name. CSV fields are strings; JSON keeps its types.
class RecordReader {
 public:
  /// Error unless the ending is .jsonl or .csv (each also .zst).
  explicit RecordReader(const fs::path& file);
  /// Blank lines are passed over. Error naming file and line if a line is no JSON object.
  bool next(Json& record);
  int64_t line() const;
  /// "train.jsonl:12"
  std::string place() const;

  /// A field as text (numbers and booleans as JSON writes them). Error naming place and field if it is missing or no scalar.
  std::string text(const Json& record, const std::string& field) const;
  /// Every scalar field as text.
  std::map<std::string, std::string> texts(const Json& record) const;

 private:
  std::string name_;
  std::unique_ptr<LineReader> lines_;
  std::unique_ptr<CsvReader> csv_;
};

/// The data files of a path: itself, or a folder's files of known endings, sorted by name. Where a folder holds files whose names begin with
/// "train", only those: its test rows are not to be learned. Error if the path is missing, of an unknown ending, or the folder has none.
std::vector<fs::path> data_files(const fs::path& path);

}  // namespace attar
