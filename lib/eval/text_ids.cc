#include "eval/text_ids.h"

#include <algorithm>
#include <fstream>

#include "base/check.h"
#include "data/row_reader.h"
#include "formats/text_lines.h"

namespace attar {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 16;

class BytesOfFile : public TextPieces {
 public:
  explicit BytesOfFile(fs::path file) : file_(std::move(file)) { rewind(); }
  bool next(std::string& piece) override {
    piece.resize(kPieceBytes);
    in_.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    check(!in_.bad(), file_.string(), "to be read", "an error");
    piece.resize(static_cast<size_t>(in_.gcount()));
    return !piece.empty();
  }
  void rewind() override {
    in_ = std::ifstream(file_, std::ios::binary);
    check(in_.is_open(), file_.string(), "a file that can be read", "none");
  }

 private:
  fs::path file_;
  std::ifstream in_;
};

class TextsOfRows : public TextPieces {
 public:
  explicit TextsOfRows(fs::path file) : file_(std::move(file)) { rewind(); }
  bool next(std::string& piece) override {
    Json row;
    if (!rows_->next(row)) return false;
    piece = rows_->text(row, "text") + "\n";
    return true;
  }
  void rewind() override { rows_ = std::make_unique<RecordReader>(file_); }

 private:
  fs::path file_;
  std::unique_ptr<RecordReader> rows_;
};

class GivenIds : public IdSource {
 public:
  explicit GivenIds(std::vector<int32_t> ids) : ids_(std::move(ids)) {}
  bool more(std::vector<int32_t>& ids) override {
    constexpr size_t kMany = 1 << 14;
    const size_t many = std::min(kMany, ids_.size() - at_);
    ids.insert(ids.end(), ids_.begin() + static_cast<ptrdiff_t>(at_), ids_.begin() + static_cast<ptrdiff_t>(at_ + many));
    at_ += many;
    return many > 0;
  }
  void rewind() override { at_ = 0; }
  const std::vector<int32_t>* whole() const override { return &ids_; }

 private:
  std::vector<int32_t> ids_;
  size_t at_ = 0;
};

class StreamedIds : public IdSource {
 public:
  StreamedIds(std::unique_ptr<TextPieces> text, std::shared_ptr<const Tokenizer> tokenizer, size_t part)
      : text_(std::move(text)), tokenizer_(std::move(tokenizer)), part_(part), before_(tokenizer_->encode("\n")) {}

  bool more(std::vector<int32_t>& ids) override {
    while (!ended_ && cut() == 0) {
      std::string piece;
      if (text_->next(piece)) waiting_ += piece;
      else ended_ = true;
    }
    if (waiting_.empty() && begun_) return false;
    const size_t end = ended_ ? waiting_.size() : cut();
    encode(std::string_view(waiting_).substr(0, end), ids);
    waiting_.erase(0, end);
    seen_ = 0;
    return true;
  }
  void rewind() override {
    text_->rewind();
    waiting_.clear();
    begun_ = ended_ = false;
    seen_ = 0;
  }

 private:
  /// Bytes up to the last line break that another character than white space follows, once there are enough; 0: there is none yet.
  size_t cut() {
    if (waiting_.size() < part_) return 0;
    for (size_t i = waiting_.size() - 1; i-- > seen_;)
      if (waiting_[i] == '\n' && std::string_view(" \t\r\n\v\f").find(waiting_[i + 1]) == std::string_view::npos) return i + 1;
    seen_ = waiting_.size() - 1;  // what was looked through is not looked through again
    return 0;
  }

  void encode(std::string_view part, std::vector<int32_t>& ids) {
    if (!begun_) {
      begun_ = true;
      if (tokenizer_->add_bos() && tokenizer_->bos()) ids.push_back(*tokenizer_->bos());
      const auto own = tokenizer_->encode(part);
      ids.insert(ids.end(), own.begin(), own.end());
      return;
    }
    const auto own = tokenizer_->encode("\n" + std::string(part));
    if (own.size() >= before_.size() && std::equal(before_.begin(), before_.end(), own.begin())) {
      ids.insert(ids.end(), own.begin() + static_cast<ptrdiff_t>(before_.size()), own.end());
      return;
    }
    const auto alone = tokenizer_->encode(part);
    ids.insert(ids.end(), alone.begin(), alone.end());
  }

  std::unique_ptr<TextPieces> text_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  size_t part_, seen_ = 0;
  std::vector<int32_t> before_;   ///< of a line break alone
  std::string waiting_;
  bool begun_ = false, ended_ = false;
};

}  // namespace

std::unique_ptr<TextPieces> file_text(const fs::path& file) {
  if (text_ending(file) == ".jsonl" || text_ending(file) == ".csv") return std::make_unique<TextsOfRows>(file);
  return std::make_unique<BytesOfFile>(file);
}

std::unique_ptr<IdSource> given_ids(std::vector<int32_t> ids) { return std::make_unique<GivenIds>(std::move(ids)); }

std::unique_ptr<IdSource> streamed_ids(std::unique_ptr<TextPieces> text, std::shared_ptr<const Tokenizer> tokenizer, size_t part) {
  return std::make_unique<StreamedIds>(std::move(text), std::move(tokenizer), part);
}

}  // namespace attar
