#pragma once
#include <memory>
#include <string>
#include <vector>

#include "formats/text_lines.h"

namespace attar {

/// Lines of text of every file given: documents' text of JSONL, one column of CSV, lines of plain text; each also as .zst.
/// Empty lines are left out.
class TrainingText {
 public:
  /// A file, or a folder whose text files are read in the order of their names. `field`: the JSONL key or CSV column that holds the text.
  TrainingText(const fs::path& path, std::string field);
  /// False at the end. Error with file and line where the field is missing.
  bool next(std::string& line);

 private:
  bool read_more();
  bool next_document(std::string& text);
  std::string field_;
  std::vector<fs::path> files_;
  size_t at_ = 0;
  std::unique_ptr<LineReader> lines_;
  std::unique_ptr<CsvReader> rows_;
  size_t column_ = 0;
  std::vector<std::string> pending_;
};

}  // namespace attar
