// attar tokenizer train: a SentencePiece model from text.
#include <iostream>

#include "base/check.h"
#include "base/files.h"
#include "base/log.h"
#include "formats/text_lines.h"
#include "front/front.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

/// Lines of text of every file given: documents' text of JSONL, all cells of CSV's text column, lines of plain text.
class TrainingLines {
 public:
  TrainingLines(const fs::path& path, std::string field) : field_(std::move(field)) {
    check(fs::exists(path), path.string(), "a file or folder of text", "nothing there");
    if (!fs::is_directory(path)) files_ = {path};
    else
      for (const auto& entry : fs::directory_iterator(path))
        if (entry.is_regular_file() && !text_ending(entry.path()).empty() && entry.path().filename().string()[0] != '.') files_.push_back(entry.path());
    std::sort(files_.begin(), files_.end());
  }

  bool next(std::string& line) {
    while (pending_.empty()) {
      if (!read_more()) return false;
    }
    line = std::move(pending_.back());
    pending_.pop_back();
    return true;
  }

 private:
  bool read_more() {
    if (!lines_) {
      if (at_ == files_.size()) return false;
      lines_ = std::make_unique<LineReader>(files_[at_]);
    }
    std::string line;
    if (!lines_->next(line)) {
      lines_.reset();
      ++at_;
      return true;
    }
    if (text_ending(files_[at_]) == ".jsonl") {
      const std::string name = str(files_[at_].string(), ":", lines_->number());
      line = get<std::string>(parse_json(line, name), field_.c_str(), name);
    }
    for (size_t begin = 0; begin < line.size();) {
      const size_t end = std::min(line.find('\n', begin), line.size());
      if (end > begin) pending_.push_back(line.substr(begin, end - begin));
      begin = end + 1;
    }
    std::reverse(pending_.begin(), pending_.end());
    return true;
  }

  std::string field_;
  std::vector<fs::path> files_;
  size_t at_ = 0;
  std::unique_ptr<LineReader> lines_;
  std::vector<std::string> pending_;
};

}  // namespace

int tool_tokenizer_train(const Words& words) {
  const std::string model = words.get("model");
  if (model != "bpe" && model != "unigram") throw UsageError("--model, expected bpe or unigram, received " + model);
  TrainingLines lines(words.get("data"), words.get("text"));
  const std::string bytes = train_sentencepiece([&](std::string& line) { return lines.next(line); }, words.integer("vocab-size"), model);
  const auto tokenizer = sentencepiece_tokenizer(bytes, "", "the trained tokenizer");
  make_folder(words.get("out"));
  for (const TokenizerFile& file : tokenizer->files()) write_file(fs::path(words.get("out")) / file.name, file.content);
  log_info(str("tokenizer of ", tokenizer->size(), " tokens in ", words.get("out")));
  return 0;
}

}  // namespace attar
