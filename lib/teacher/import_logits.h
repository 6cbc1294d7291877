#pragma once
#include "teacher/capture.h"

namespace attar {

/// Another tool's logits in one .npz or .h5 file become a cache. docs/teacher_cache.md documents the layout: `lengths` and `ids` of token
/// sequences, and beside every id either `logits` (any codec) or `top_ids` and `top_log_probs` (codec top_k), which speak of the token after it.
/// Each document of the rows is looked for among the sequences by its ids; a sequence may go on behind it. Error naming the first row whose
/// tokens the file does not hold.
Json capture_imported(const fs::path& file, const TokenRows& rows, const CacheIdentity& identity, int64_t shard_rows, const fs::path& folder,
                      const ShardRange& range = {});

}  // namespace attar
