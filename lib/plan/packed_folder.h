#pragma once
#include "base/files.h"
#include "base/json.h"

namespace attar {

/// A folder of packed rows (docs/data.md) as its packed.json describes it, read without its rows: {kind: "packed", tokenizer, seq, rows, ...}.
/// Strict: Error naming packed.json.
Json packed_facts(const fs::path& folder);

/// Faults of the shards against packed.json: missing, or other bytes than were packed.
std::vector<Fault> verify_packed(const fs::path& folder);

}  // namespace attar
