#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/rows.h"
#include "eval/text_ids.h"
#include "model/decoder.h"

namespace attar {

/// Sequences for one forward pass, and which of their positions are scored.
struct ScoredBatch {
  TokenBatch tokens;       ///< (B, T)
  at::Tensor positions;    ///< (n) int64 into the flattened B*T
  at::Tensor targets;      ///< (n) int64 the token that follows each
};

/// What language measures run over: batches in a fixed order, once.
class ScoredPositions {
 public:
  virtual ~ScoredPositions() = default;
  virtual bool next(ScoredBatch& batch) = 0;
  virtual void rewind() = 0;
  virtual int64_t count() const = 0;          ///< scored positions in all; of a streamed text those so far
  virtual int64_t bytes() const { return 0; } ///< of the text that the scored tokens stand for (streamed: so far); 0: not known
  virtual std::string protocol() const = 0;   ///< what was scored, for the report
};

/// llama.cpp's protocol: the text's ids in chunks of `ctx` without overlap (a shorter rest is dropped), the first token of each replaced by BOS where
/// the model begins with one, and only the second half scored: ctx - 1 - ctx/2 tokens a chunk. `ids` as text_ids gives them. `limit` tokens, 0: all.
/// Error unless there are two chunks (llama.cpp asks the same) and ctx is 4 or more. `tokenizer`: bytes() is known.
std::unique_ptr<ScoredPositions> chunk_positions(std::vector<int32_t> ids, std::optional<int32_t> bos, int64_t ctx, int64_t limit = 0,
                                                 const Tokenizer* tokenizer = nullptr);
/// The same over ids that come bit by bit: memory does not grow with the text. `tokenizer` is kept by reference.
std::unique_ptr<ScoredPositions> chunk_positions(std::unique_ptr<IdSource> ids, std::optional<int32_t> bos, int64_t ctx, int64_t limit = 0,
                                                 const Tokenizer* tokenizer = nullptr);

/// Windows of `ctx` tokens that move on by `stride`, each beginning with BOS where the model wants one; a window scores what none before it has
/// scored, so every token but the first is scored once with ctx - stride tokens before it at least (the text's beginning excepted).
/// Error unless 1 <= stride < ctx and there are two tokens.
std::unique_ptr<ScoredPositions> window_positions(std::vector<int32_t> ids, std::optional<int32_t> bos, int64_t ctx, int64_t stride,
                                                  int64_t limit = 0, const Tokenizer* tokenizer = nullptr);

/// Every learned token of `rows` (kept by reference): the answers of a task's held-out rows, or whole texts.
std::unique_ptr<ScoredPositions> row_positions(const TokenRows& rows, int64_t batch = 16);

/// Ids of a whole text, with BOS in front where the tokenizer adds one.
std::vector<int32_t> text_ids(const std::string& text, const Tokenizer& tokenizer);
/// The id that begins a chunk, if this tokenizer's models want one.
std::optional<int32_t> chunk_bos(const Tokenizer& tokenizer);

/// The hidden states (n, D) of a batch's scored positions.
at::Tensor scored_hidden(const Decoder& model, const ScoredBatch& batch);
/// Rows of logits formed at a time, so that a slice stays near 8 MB in float32 whatever the vocabulary.
int64_t slice_rows(int64_t vocab);

}  // namespace attar
