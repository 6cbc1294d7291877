#pragma once
#include "base/files.h"
#include "base/json.h"

namespace attar {

/// What a file or folder is, from headers and manifests alone: kind, facts, tensors, tokenizer, lineage. Error if it is nothing attar knows.
/// Kinds: gguf, safetensors, hf (a Hugging Face folder), artifact, cache, packed, onnx, tokenizer, run,
/// recipe.
Json inspect(const fs::path& path);
/// For a person: a few lines and a table of tensors (at most `rows` of them).
std::string inspect_text(const Json& facts, size_t rows);

/// Whether it is whole: containers parse, manifests match every byte, runs hold whole artifacts. Faults in words; empty: whole.
std::vector<Fault> verify_path(const fs::path& path);

/// Removes snapshots, work folders and artifacts that only other stages needed; returns what was (or would be) removed and what is kept.
Json clean_run(const fs::path& run_folder, bool dry_run);

}  // namespace attar
