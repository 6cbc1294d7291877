#include "data/row_reader.h"

#include <algorithm>

#include "base/check.h"

namespace attar {

namespace {
constexpr const char* kEndings = ".jsonl, .csv or .txt, each also .zst";

bool known_ending(const fs::path& file) {
  const std::string ending = text_ending(file);
  return ending == ".jsonl" || ending == ".csv" || ending == ".txt";
}

std::string scalar_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : to_line(value);
}

bool is_scalar_value(const Json& value) { return value.is_string() || value.is_number() || value.is_boolean(); }
}  // namespace

RecordReader::RecordReader(const fs::path& file) : name_(file.string()) {
  const std::string ending = text_ending(file);
  if (ending == ".jsonl")
    lines_ = std::make_unique<LineReader>(file);
  else if (ending == ".csv")
    csv_ = std::make_unique<CsvReader>(file);
  else
    fail(name_, "a file of rows: .jsonl or .csv, each also .zst", "ending '" + ending + "'");
}

int64_t RecordReader::line() const { return lines_ ? lines_->number() : csv_->line(); }
std::string RecordReader::place() const { return str(name_, ":", line()); }

bool RecordReader::next(Json& record) {
  if (csv_) {
    std::vector<std::string> row;
    if (!csv_->next(row)) return false;
    record = Json::object();
    for (size_t i = 0; i < row.size(); ++i) record[csv_->columns()[i]] = std::move(row[i]);
    return true;
  }
  std::string text;
  while (lines_->next(text)) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    record = parse_json(text, place());
    if (!record.is_object()) fail(place(), "a JSON object", to_line(record).substr(0, 40));
    return true;
  }
  return false;
}

std::string RecordReader::text(const Json& record, const std::string& field) const {
  const auto found = record.find(field);
  if (found == record.end()) {
    std::vector<std::string> known;
    for (const auto& [name, value] : record.items()) known.push_back(name);
    fail(place() + ": field '" + field + "'", "in every row", "nothing", nearest_hint(field, known));
  }
  if (!is_scalar_value(*found)) fail(place() + ": field '" + field + "'", "text", to_line(*found).substr(0, 40));
  return scalar_text(*found);
}

std::map<std::string, std::string> RecordReader::texts(const Json& record) const {
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : record.items())
    if (is_scalar_value(value)) out[name] = scalar_text(value);
  return out;
}

std::vector<fs::path> data_files(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) fail(path.string(), "a data file or a folder of them", "nothing there");
  if (!fs::is_directory(status)) {
    if (!known_ending(path)) fail(path.string(), kEndings, "ending '" + text_ending(path) + "'");
    return {path};
  }
  std::vector<fs::path> all, training;
  fs::directory_iterator entries(path, error);
  if (error) fail(path.string(), "a readable folder", error.message());
  for (const auto& entry : entries) {
    if (!entry.is_regular_file(error) || !known_ending(entry.path())) continue;
    all.push_back(entry.path());
    if (entry.path().filename().string().starts_with("train")) training.push_back(entry.path());
  }
  if (!training.empty()) all = std::move(training);
  if (all.empty()) fail(path.string(), std::string("files of data in it: ") + kEndings, "none");
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace attar
