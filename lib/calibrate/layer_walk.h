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
};

/// Calibration rows on their way through a model, one layer after the other, so that a layer can be changed after its inputs were seen and
/// the next layer sees what the changed one gives. Held on the CPU: (rows, T, D) float32; ranks of `group` share the batches, each holds its own.
/// Rows, model and group must outlive the walk; the model's observer is the walk's while show() runs.
///
///   LayerWalk walk(model, rows, {}, group);
///   for (; walk.layer() < walk.layers(); walk.advance())
///     for (const auto& weights : input_groups(walk.layer())) {
///       walk.show({weights[0]}, [&](const std::string& name, const at::Tensor& x) { sum over x });  // then all_reduce the sums
///       model.weights().at(weights[0]) = changed;
///     }
class LayerWalk {
 public:
  LayerWalk(Decoder& model, const TokenRows& rows, const LayerWalkOptions& options, ProcessGroup& group);

  int64_t layer() const { return layer_; }   ///< the layer whose input is held, from 0; layers() after the last
  int64_t layers() const;
  int64_t tokens() const { return tokens_; }  ///< positions of all ranks that are no padding
  ProcessGroup& group() const { return *group_; }

  /// One linear's input: (n, in) float32 on the CPU, padding left out. Called batch by batch in the rows' order.
  using Visitor = std::function<void(const std::string& weight, const at::Tensor& x)>;
  /// Runs this rank's rows through the current layer as its weights are now and shows the inputs of the linears named; states stay as they are.
  void show(const std::vector<std::string>& weights, const Visitor& visit);

  /// One batch of this rank: its states (B, T, D) and tokens, as they stand before the current layer.
  struct Part {
    at::Tensor states;
    TokenBatch tokens;
    at::Tensor valid;  ///< (B * T) bool: no padding
  };
  const std::vector<Part>& parts() const { return parts_; }

  /// Runs the rows through the current layer as its weights are now and goes on to the next.
  void advance();

 private:
  Decoder* model_;
  ProcessGroup* group_;
  int64_t layer_ = 0, tokens_ = 0;
  std::vector<Part> parts_;
};

}  // namespace attar
