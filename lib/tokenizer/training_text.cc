#include "tokenizer/training_text.h"

#include <algorithm>

#include "base/check.h"
#include "base/json.h"

namespace attar {

TrainingText::TrainingText(const fs::path& path, std::string field) : field_(std::move(field)) {
  check(fs::exists(path), path.string(), "a file or folder of text", "nothing there");
  if (!fs::is_directory(path)) files_ = {path};
  else
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.is_regular_file() && !text_ending(entry.path()).empty() && entry.path().filename().string()[0] != '.') files_.push_back(entry.path());
  std::sort(files_.begin(), files_.end());
}

bool TrainingText::next(std::string& line) {
  while (pending_.empty())
    if (!read_more()) return false;
  line = std::move(pending_.back());
  pending_.pop_back();
  return true;
}

bool TrainingText::next_document(std::string& text) {
  if (rows_) {
    std::vector<std::string> row;
    if (!rows_->next(row)) return false;
    text = std::move(row[column_]);
    return true;
  }
  if (!lines_->next(text)) return false;
  if (text_ending(files_[at_]) == ".jsonl") {
    const std::string name = str(files_[at_].string(), ":", lines_->number());
    text = get<std::string>(parse_json(text, name), field_.c_str(), name);
  }
  return true;
}

bool TrainingText::read_more() {
  if (!lines_ && !rows_) {
    if (at_ == files_.size()) return false;
    if (text_ending(files_[at_]) == ".csv") {
      rows_ = std::make_unique<CsvReader>(files_[at_]);
      const auto found = std::find(rows_->columns().begin(), rows_->columns().end(), field_);
      check(found != rows_->columns().end(), files_[at_].string(), "a column '" + field_ + "'", "none of that name", "name it with --text");
      column_ = static_cast<size_t>(found - rows_->columns().begin());
    } else {
      lines_ = std::make_unique<LineReader>(files_[at_]);
    }
  }
  std::string text;
  if (!next_document(text)) {
    lines_.reset();
    rows_.reset();
    ++at_;
    return true;
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) pending_.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  std::reverse(pending_.begin(), pending_.end());
  return true;
}

}  // namespace attar
