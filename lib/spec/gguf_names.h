#pragma once
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "spec/model_spec.h"

namespace attar {

/// One tensor of a GGUF file and the Hugging Face parameters it is made of.
struct GgufMapping {
  std::string gguf;                 ///< "blk.0.attn_q.weight"
  std::vector<std::string> sources; ///< one, or the parts of a fused tensor stacked by rows (phi3)
  int64_t permute_heads = 0;        ///< > 0: rows of each of that many heads go from half-split to adjacent pairs (architecture llama)
  bool add_one = false;             ///< Gemma norms: stored as w + 1
  bool matrix = false;              ///< may be quantized; else written as F32
};
/// Every tensor of the file, in llama.cpp's usual order. rope_freqs and longrope factors are not here (see gguf_rope_tensors).
std::vector<GgufMapping> gguf_mapping(const ModelSpec& spec);
struct ComputedTensor { std::string name; std::vector<float> values; };
std::vector<ComputedTensor> gguf_rope_tensors(const ModelSpec& spec);

/// The architecture's keys ({arch}.*, general.architecture), exactly the types llama.cpp's loader wants.
/// Error where the architecture cannot say what the spec says, or llama.cpp would infer something else than it (verified with v0.5.0);
/// window of Mistral v0.1: the context is capped and a warning returned. A llama whose layers differ in width becomes "deci", llama.cpp's
/// llama with widths per layer; other families must have equal layers.
void gguf_architecture(const ModelSpec& spec, GgufMetadata& metadata, std::vector<std::string>& warnings);
/// The reverse: a spec from a file's metadata and tensor shapes. Unknown architecture: Error.
ModelSpec spec_from_gguf(const GgufFile& file);

/// Source row of row `row` after the permutation (half-split -> adjacent pairs) of one head of size d: 2i <- i, 2i+1 <- i + d/2.
int64_t permuted_row(int64_t row, int64_t head_size);

}  // namespace attar
