#include <sentencepiece_trainer.h>

#include <regex>
#include <unordered_map>

#include "base/check.h"
#include "base/log.h"
#include "formats/sentencepiece_model.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

/// The library counts a word's characters in 16 bits and drops longer sentences than this many bytes.
constexpr size_t kMaxSentenceBytes = 4192;

/// Feeds lines to the trainer: cut at line ends, and where they are too long at the last space (or else character) that fits.
class TrainingLines final : public sentencepiece::SentenceIterator {
 public:
  explicit TrainingLines(const std::function<bool(std::string&)>& next_line) : next_line_(next_line) { Next(); }
  bool done() const override { return done_; }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }
  int64_t given() const { return given_; }

  void Next() override {
    value_.clear();
    while (value_.empty()) {
      if (at_ >= line_.size()) {
        line_.clear();
        at_ = 0;
        if (!next_line_(line_)) {
          done_ = true;
          return;
        }
        continue;
      }
      const size_t line_end = std::min(line_.find_first_of("\r\n", at_), line_.size());
      size_t end = line_end, skip = line_end < line_.size() ? 1 : 0;
      if (end - at_ > kMaxSentenceBytes) {
        end = at_ + kMaxSentenceBytes;
        skip = 0;
        const size_t space = line_.rfind(' ', end);
        if (space != std::string::npos && space > at_) {
          end = space;  // the next sentence begins with the space that the library puts before each
          skip = 1;
        } else {
          size_t back = end;
          while (back > at_ && end - back < 4 && (static_cast<uint8_t>(line_[back]) & 0xC0) == 0x80) --back;
          if (back > at_) end = back;
        }
      }
      value_ = line_.substr(at_, end - at_);
      at_ = end + skip;
      given_ += !value_.empty();
    }
  }

 private:
  const std::function<bool(std::string&)>& next_line_;
  std::string line_, value_;
  size_t at_ = 0;
  int64_t given_ = 0;
  bool done_ = false;
};

[[noreturn]] void fail_training(const std::string& message, int64_t vocab_size) {
  std::smatch found;
  if (std::regex_search(message, found, std::regex("value <= (\\d+)")))
    fail(str("vocab_size ", vocab_size), "at most " + found[1].str() + ": the text gives no more tokens", "",
        "use a smaller vocabulary or more text");
  if (std::regex_search(message, found, std::regex("smaller than required_chars\\. (\\d+) vs (\\d+)")))
    fail(str("vocab_size ", vocab_size), "more than " + found[2].str() + ": the text's characters, 256 bytes and three special tokens", "");
  fail("training the tokenizer", "text that a vocabulary can be trained on", message);
}

}  // namespace

std::string train_sentencepiece(const std::function<bool(std::string&)>& next_line, int64_t vocab_size, const std::string& model) {
  if (model != "bpe" && model != "unigram") fail("tokenizer model", "bpe or unigram", model);
  if (vocab_size < 260 || vocab_size > 1000000) fail("vocab_size", "260 to 1000000: 256 bytes and three special tokens are always there",
      str(vocab_size));
  TrainingLines lines(next_line);
  if (lines.done()) fail("training the tokenizer", "lines of text", "none");
  // The number of threads is fixed: sums of the unigram trainer depend on it.
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", model},
      {"vocab_size", std::to_string(vocab_size)},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"max_sentence_length", std::to_string(kMaxSentenceBytes)},
      {"num_threads", "4"},
      {"unk_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "2"},
      {"pad_id", "-1"},
      {"minloglevel", "3"},
  };
  std::string bytes;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &bytes);
  if (!status.ok()) fail_training(status.message(), vocab_size);
  const auto trained = static_cast<int64_t>(parse_sentencepiece(bytes, "trained tokenizer").pieces.size());
  if (trained != vocab_size)
    fail(str("vocab_size ", vocab_size), str("at most ", trained, ": the text gives no more tokens"), "", "use a smaller vocabulary or more text");
  return bytes;
}

}  // namespace attar
