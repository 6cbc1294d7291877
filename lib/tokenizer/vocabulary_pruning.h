#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace attar {

/// A tokenizer that has lost tokens, and which those were.
struct PrunedTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<int32_t> kept;  ///< new id -> old id, ascending
};

/// The tokenizer without the tokens that are not `used` (one flag an id): its files are rewritten (tokenizer.model, tokenizer.json, the id tables
/// around them) and read again. What stays besides: bytes, special, added and user-defined tokens, the unknown token, and every token on a way to a
/// kept one (both sides of each merge rule that gives it). So a text whose ids are all used is cut into the same pieces as before: each step of its
/// merging is still there, and no new one is; a unigram's best path stays the best of fewer. Any other text still encodes, into smaller pieces. Error
/// for a kind whose files are not ours to rewrite.
PrunedTokenizer prune_tokenizer(const Tokenizer& tokenizer, std::vector<bool> used);

}  // namespace attar
