#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "spec/configs.h"
#include "tokenizer/tokenizer.h"

namespace attar {

constexpr uint8_t kLearnPrompt = 2;

/// Neighbouring rows that came from one data set of a mixture.
struct RowPart {
  std::string name;
  int64_t rows = 0;
};

/// Token rows ready for batching: the one place where text has become ids. Row r of a cache belongs to row r here.
struct TokenRows {
  at::Tensor ids;       ///< (R, T) int32, padded with 0
  at::Tensor learn;     ///< (R, T) uint8: 0 only read, 1 to be predicted, kLearnPrompt to be predicted though it is part of a prompt
  at::Tensor segments;  ///< (R, T) int32 document number inside the row, -1 padding
  at::Tensor lengths;   ///< (R) int32 tokens used
  std::string data_hash;     ///< of the input files' bytes
  std::string fingerprint;   ///< of ids, learn and segments: equal rows are equal fingerprints
  std::vector<RowPart> parts = {};  ///< of a mixture, in order of the rows; empty: one data set
  int64_t rows() const { return ids.defined() ? ids.size(0) : 0; }
  int64_t seq() const { return ids.defined() ? ids.size(1) : 0; }
  int64_t learned_tokens() const;
};

/// One text to learn from, before tokenization: pieces that are learned or only read.
struct Document {
  struct Piece {
    std::string text;
    bool learn;
    bool special = false;  ///< special tokens' text inside stands for the tokens (chat markers)
    bool apart = false;    ///< Document::joined: encoded without what stands before it
  };
  std::vector<Piece> pieces;
  bool whole = false;        ///< an example: packing never cuts it (it moves to another row)
  size_t prompt_pieces = 0;  ///< whole: the first so many pieces may be shortened from their start
  bool joined = false;       ///< a chat template's text: pieces are parts of one text, which says itself how it begins and ends
};

/// Reads documents of a file or folder by DataConfig (text, prompt/answer, chat) or by a task's template; Error names file, line, field.
/// Chats are rendered by the tokenizer's chat template; without a tokenizer, or where it has none, or with data.chat chatml, as ChatML.
class DocumentReader {
 public:
  DocumentReader(const fs::path& path, const DataConfig& config, const TaskConfig* task = nullptr, const Tokenizer* tokenizer = nullptr);
  ~DocumentReader();
  bool next(Document& document);
  const std::vector<fs::path>& files() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Tokenizes and packs. Each document is rendered by render_document (data/task.h): BOS, pieces each encoded alone, EOS.
/// pack: texts follow each other and are cut at row ends; examples (Document::whole) go to the first of the last rows that holds them whole;
/// attention stays inside a document. Not packed: one document a row, cut to seq. An example that is longer than seq has its prompt shortened
/// from its start; answers that do not fit even so are one Error saying how many. No documents: Error naming the file.
/// OpenMP over documents; same input, same rows.
TokenRows make_rows(DocumentReader& documents, const Tokenizer& tokenizer, const DataConfig& config);

/// A row template: "{text}\n" with a row's fields put in; "{{" stands for "{". Error names an unknown field.
std::string fill_template(const std::string& pattern, const std::map<std::string, std::string>& fields);

/// A mixture's data sets one after the other, each of the same T; `names` for the parts.
TokenRows join_rows(const std::vector<TokenRows>& parts, const std::vector<std::string>& names);

/// Splits rows in two by a seeded draw: `held` rows apart (at least one each).
std::pair<TokenRows, TokenRows> split_rows(const TokenRows& rows, double held_share, uint64_t seed);

}  // namespace attar
