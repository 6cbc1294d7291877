#pragma once
#include "data/rows.h"

namespace attar {

/// Rows of token ids made once, so that every capture and training reads them without the text: a folder of HDF5 shards (rows-00000000.h5, ...: ids,
/// learn, segments and lengths as TokenRows has them) with packed.json, which names the tokenizer, the data's hash and each shard's checksum.
/// docs/data.md describes both files.
bool is_packed(const fs::path& path);

/// Writes rows; `shard_rows` a file. Equal rows give equal bytes. packed.json comes last: a folder without it is none.
void write_packed(const TokenRows& rows, const std::string& tokenizer, const fs::path& folder, int64_t shard_rows);

/// Reads them whole. Error if they were made by another tokenizer (with both fingerprints), a shard is missing, cut, changed or swapped with another,
/// or what it holds are no rows of the stated shape.
TokenRows read_packed(const fs::path& folder, const std::string& tokenizer);

/// The fingerprint of rows: equal for equal ids, learn and segments.
std::string rows_fingerprint(const TokenRows& rows);

}  // namespace attar
