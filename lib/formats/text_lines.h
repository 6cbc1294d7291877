#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"

namespace attar {

/// Streams a text file line by line (split on '\n' only, without it); `.zst` is decompressed on the way.
/// Memory: one line and a buffer. A line longer than 1 GiB, or a damaged zstd frame, is an Error naming the file.
class LineReader {
 public:
  explicit LineReader(const fs::path& path);
  ~LineReader();
  bool next(std::string& line);
  int64_t number() const;  ///< of the line last given, from 1

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Whole text of a plain or zstd file.
std::string read_text(const fs::path& path);

/// A CSV file by RFC 4180 (quotes, doubled quotes, line breaks inside quotes); plain or zstd; first row names the columns.
class CsvReader {
 public:
  explicit CsvReader(const fs::path& path);
  const std::vector<std::string>& columns() const { return columns_; }
  bool next(std::vector<std::string>& row);  ///< Error with the line if the number of fields differs
  int64_t line() const { return line_; }

 private:
  bool record(std::vector<std::string>& row);
  LineReader lines_;
  std::string name_;
  std::vector<std::string> columns_;
  int64_t line_ = 0;
};

/// "data.jsonl.zst" -> ".jsonl"; the ending without compression.
std::string text_ending(const fs::path& path);

}  // namespace attar
