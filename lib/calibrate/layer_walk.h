#pragma once
#include <functional>
#include <string>
#include <vector>

#include "data/rows.h"
#include "dist/process_group.h"
#include "model/decoder.h"

namespace attar {

/// Linears of a layer that read the same tensor: q, k and v; o; gate and up; down. Weight names, in the order of the forward pass.
std::vector<std::vector<std::string>> input_groups(int64_t layer);

struct LayerWalkOptions {
  int64_t rows = 128;  ///< the first so many are read
  int64_t batch = 4;   ///< rows a forward
  /// What o or down of one layer reads is kept, up to so many bytes a rank, until they run; what does not fit is computed a second time. Same bits.
  int64_t keep_bytes = int64_t{1} << 30;
};

/// Calibration rows on their way through a model, one group of linears after the other, so that a group can be changed after its inputs were seen
/// and what follows sees what the changed one gives. Every linear runs once (gate, up, q, k and v twice where their result was not kept).
/// Held on the CPU: (rows, T, D) float32; ranks of `group` share the batches, each holds its own. Rows, model and group must outlive the walk.
///
///   LayerWalk walk(model, rows, {}, group);
///   for (; walk.layer() < walk.layers(); walk.advance())
///     for (const auto& weights : input_groups(walk.layer())) {
///       walk.show(weights[0], [&](const at::Tensor& x) { sum over x });  // then all_reduce the sums
///       model.weights().at(weights[0]) = changed;
///     }
class LayerWalk {
 public:
  LayerWalk(Decoder& model, const TokenRows& rows, const LayerWalkOptions& options, ProcessGroup& group);

  int64_t layer() const { return layer_; }   ///< the layer whose input is held, from 0; layers() after the last
  int64_t layers() const;
  int64_t tokens() const { return tokens_; }  ///< positions of all ranks that are no padding
  ProcessGroup& group() const { return *group_; }

  /// A linear's input: (n, in) float32 on the CPU, contiguous, padding left out. Called batch by batch in the rows' order.
  using Visitor = std::function<void(const at::Tensor& x)>;
  /// Shows this rank's inputs of one linear of the current layer. What runs before it runs with the weights as they are now and is settled by
  /// that: groups are shown in the order of input_groups(), and those before the last one shown stay as they are until advance().
  void show(const std::string& weight, const Visitor& visit);

  /// One batch of this rank: its states (B, T, D) and tokens, as they stand before the current layer (between show() and advance(): inside it).
  struct Part {
    at::Tensor states;
    TokenBatch tokens;
    at::Tensor valid;  ///< (B * T) bool: no padding
    at::Tensor mixed;  ///< what o or down of the current half reads; undefined: not computed yet, or not kept
  };
  const std::vector<Part>& parts() const { return parts_; }

  /// Runs the rows through what is left of the current layer, with its weights as they are now, and goes on to the next.
  void advance();

 private:
  at::Tensor mixed(const Part& part) const;
  void finish_half();
  Decoder* model_;
  ProcessGroup* group_;
  int64_t layer_ = 0, tokens_ = 0, keep_bytes_, kept_ = 0;
  Decoder::Half half_ = Decoder::Half::attention;
  std::vector<Part> parts_;
};

}  // namespace attar
