#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// A text that comes in pieces of any size, as often as it is asked to begin again.
class TextPieces {
 public:
  virtual ~TextPieces() = default;
  virtual bool next(std::string& piece) = 0;   ///< false at the end
  virtual void rewind() = 0;
};
/// A .txt file (or any other) as its bytes; of .jsonl and .csv rows the field `text`, each with a line break. Never more than a piece is held.
std::unique_ptr<TextPieces> file_text(const fs::path& file);

/// Ids that come bit by bit.
class IdSource {
 public:
  virtual ~IdSource() = default;
  virtual bool more(std::vector<int32_t>& ids) = 0;                        ///< appends some; false at the end
  virtual void rewind() = 0;
  virtual const std::vector<int32_t>* whole() const { return nullptr; }    ///< all of them, where they lie in memory
};
std::unique_ptr<IdSource> given_ids(std::vector<int32_t> ids);

/// The ids of a text of any length, with BOS in front where the tokenizer adds one, without ever holding the text or all ids: it is encoded in parts
/// of about `part` bytes that end with a line break which another character than white space follows. Each is encoded after a line break whose own
/// ids are taken off again, so tokenizers that put a space in front do so once. A text without such line breaks is encoded whole.
std::unique_ptr<IdSource> streamed_ids(std::unique_ptr<TextPieces> text, std::shared_ptr<const Tokenizer> tokenizer, size_t part = size_t{1} << 18);

}  // namespace attar
