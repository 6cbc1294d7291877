#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "base/json.h"
#include "data/rows.h"
#include "dist/process_group.h"
#include "model/checkpoint.h"
#include "spec/configs.h"

namespace attar {

/// Which share of the weights goes: `zeros` of each `of` consecutive inputs, or (of 0) a share of a row, matrix or block.
struct MaskPattern {
  int64_t zeros = 0, of = 0;
  double share = 0;
};
/// "0.5", "2:4", "4:8". Error if it leaves nothing or takes nothing.
MaskPattern parse_mask_pattern(const std::string& text);

/// Single weights that are zero and stay zero, by the weight's name: (out, in) bool, true where the weight lives.
struct Masks {
  std::string method, pattern;
  std::map<std::string, at::Tensor> alive;
  bool empty() const { return alive.empty(); }
};

/// Zeros `model`'s linears by config.method and config.pattern. magnitude: the smallest of each matrix. wanda (Sun et al. 2023, arXiv 2306.11695,
/// section 3): lowest |w| times the L2 norm of its input, in each output row. sparsegpt (Frantar and Alistarh 2023, arXiv 2301.00774, algorithm 1):
/// lowest error by the Hessian in blocks of 128 columns, the error moved to the columns that follow. The last two go layer by layer through
/// already masked layers and hold one linear's statistics at a time. Embedding and output matrix stay whole. Codes are dropped.
/// `kept`: a folder where they put finished layers, and from where a call that was ended goes on, to the same bytes; empty: none.
/// Error: no rows, or a row that m does not divide.
Masks mask_model(Checkpoint& model, const PruneConfig& config, const TokenRows* rows, ProcessGroup& group, const fs::path& kept = {});

/// masks.safetensors beside a model: a bit a weight. Loading checks names and shapes; no file: empty.
void save_masks(const Masks& masks, const fs::path& folder);
Masks load_masks(const fs::path& folder, const ModelSpec& spec);

/// Writes zero wherever a mask says so; weights in place, on whatever device they are.
void apply_masks(const Masks& masks, StateDict& weights);

/// Weights that a mask says are zero and that are not.
int64_t broken_zeros(const Masks& masks, const StateDict& weights);

/// method, pattern, zeros, weights of masked matrices, their sparsity, and that of the whole model.
Json mask_facts(const Masks& masks, const ModelSpec& spec);

}  // namespace attar
