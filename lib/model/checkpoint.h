#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>

#include "stored/stored_model.h"

namespace attar {

/// Parameters under Hugging Face's names (spec/model_spec.h lists them), ordered by name.
using StateDict = std::map<std::string, at::Tensor>;

/// A weight that lives on the grid of a file: its codes are what export writes.
struct QuantizedTensor {
  GgmlType type;               ///< of blocks with their scales inside; or i8, ONNX's integers with one scale a row
  std::vector<int64_t> shape;  ///< (rows, columns) of the weight
  at::Tensor blocks;           ///< uint8 (rows, ggml_row_bytes(type, columns)), CPU
  at::Tensor scales = {};      ///< i8: float32 (rows), CPU; a weight is its integer times its row's scale
};

/// A model as tensors: facts, weights, tokenizer. For names in `codes`, `weights` holds exactly the dequantized values.
struct Checkpoint {
  ModelSpec spec;
  StateDict weights;
  std::map<std::string, QuantizedTensor> codes;
  std::shared_ptr<const Tokenizer> tokenizer;  ///< may be null: `logits` and `bench train` need none
  std::string license, base_model;             ///< carried into every export; "" if unknown
};

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;  ///< what the weights become
  bool keep_dtype = false;            ///< leave them as stored (export); they may lie in the mapped file: read only
  at::Device device = at::kCPU;
  bool tokenizer = true;              ///< false: do not look for one
};
/// What read_stored reads, as tensors: dequantized, permutation of heads undone, Gemma's norms as Hugging Face has them. Codes are kept where the
/// weights are float32 (or as stored).
Checkpoint load_checkpoint(const fs::path& path, const LoadOptions& options = {});

/// The checkpoint as a model at rest, for what writes files. Tensors of the CPU that lie together are not copied; the result keeps them alive.
StoredModel stored_view(const Checkpoint& checkpoint);

/// Hugging Face layout into `folder` (write_hf).
void save_checkpoint(const Checkpoint& checkpoint, const fs::path& folder, at::ScalarType dtype = at::kFloat,
                     int64_t shard_bytes = int64_t{5} << 30);

/// SHA-256 over spec and weights' bytes (not over where they lie): who a teacher is.
std::string checkpoint_fingerprint(const Checkpoint& checkpoint);

}  // namespace attar
