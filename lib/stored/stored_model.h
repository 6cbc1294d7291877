#pragma once
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "formats/ggml_types.h"
#include "spec/model_spec.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// A parameter as a file holds it: its bytes where they lie, and how its rows come out of them. A vector counts as a column of rows.
struct StoredTensor {
  GgmlType type = GgmlType::f32;      ///< f64, f32, f16, bf16, a type of blocks, or i8: ONNX's integers with one scale a row
  std::vector<int64_t> shape;         ///< of the parameter: (rows) or (rows, columns)
  std::span<const uint8_t> bytes;     ///< row after row, row_bytes() each, at any address
  std::span<const uint8_t> scales;    ///< i8: float32 (rows)
  int64_t permuted_heads = 0;         ///< > 0: rows of each of that many heads lie in GGUF's order of adjacent pairs (spec/gguf_names.h)
  bool plus_one = false;              ///< 1 is to be subtracted (norms of Gemma in GGUF)
  std::shared_ptr<const void> owner;  ///< of the bytes
  std::function<void()> release;      ///< the bytes' pages are not needed for now; may be empty

  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t columns() const { return shape.size() == 2 ? shape[1] : 1; }
  int64_t row_bytes() const;
  bool plain() const { return permuted_heads == 0 && !plus_one; }  ///< the bytes are the parameter's, in its own order
  /// Bytes of the parameter's row `row` as stored.
  const uint8_t* row(int64_t row) const;
  /// Rows [begin, begin + count) as stored, in the parameter's order: where they lie if they lie together, else copied into `room`.
  const uint8_t* rows_together(int64_t begin, int64_t count, std::vector<uint8_t>& room) const;
  /// The numbers of rows [begin, begin + count): out (count, columns) float32.
  void values(int64_t begin, int64_t count, float* out) const;
};

/// A model at rest, as its files hold it, under Hugging Face's names: nothing is converted or computed before it is asked for.
struct StoredModel {
  ModelSpec spec;
  std::map<std::string, StoredTensor> weights;
  std::map<std::string, StoredTensor> codes;   ///< blocks (or i8) of weights that live on the grid of a file; `weights` has the same values
  std::shared_ptr<const Tokenizer> tokenizer;  ///< may be null
  std::string license, base_model;             ///< carried into every export; "" if unknown

  /// Error naming the parameter if there is no such weight.
  const StoredTensor& weight(const std::string& name) const;
  /// The weight's own codes if they are of `type`, else null.
  const StoredTensor* code(const std::string& name, GgmlType type) const;
};

/// M of the command line, mapped: a Hugging Face folder or artifact (config.json + safetensors [+ codes.safetensors]), a .gguf file, or an ONNX
/// folder written by attar. Refuses by name: unknown architecture, unmapped, missing or misshapen tensors, types that hold no weights.
/// "owner/name" that is no path: Error with the command that fetches it. `tokenizer` false: none is looked for.
StoredModel read_stored(const fs::path& path, bool tokenizer = true);

/// Facts without weights.
ModelSpec load_spec(const fs::path& path);

/// Hugging Face layout into `folder` (made by the caller, e.g. AtomicFolder::path()): config.json, generation_config.json, model.safetensors
/// (sharded with an index above `shard_bytes`), tokenizer files, codes.safetensors when there are codes, README.md as a short card.
/// type: f32, f16 or bf16; Error naming tensor and index of a value that it cannot hold.
void write_hf(const StoredModel& model, const fs::path& folder, GgmlType type, int64_t shard_bytes);

/// A shape for sentences: "[2, 3]".
std::string shape_text(const std::vector<int64_t>& shape);

/// Calls `take(begin, count)` for pieces of `rows` rows that hold about four million numbers each, one after the other.
template <class Take>
void for_row_pieces(int64_t rows, int64_t columns, const Take& take) {
  constexpr int64_t kElements = int64_t{1} << 22;
  const int64_t step = std::max<int64_t>(1, kElements / std::max<int64_t>(columns, 1));
  for (int64_t begin = 0; begin < rows; begin += step) take(begin, std::min(step, rows - begin));
}

}  // namespace attar
