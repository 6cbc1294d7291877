#pragma once
#include <memory>

#include "quant/quantize.h"

namespace attar {

/// Where a step's scales come from: from the weights as they stand, from the solution that training began with, or learned beside the weights.
enum class Scales { recomputed, kept, learned };

struct TrainingGridOptions {
  Scales scales = Scales::recomputed;
  Rounding rounding = Rounding::ggml;  ///< learned: how the scales are found when the grid comes after `delay`
  int64_t delay = 0;                   ///< steps without the grid; scales that are not learned are then recomputed
  at::Device device = at::kCPU;        ///< where the weights are and learned scales lie
};

/// The grid that a training's forward pass goes through: the file's dequantized values, straight through for the gradients. One object does the
/// forward and writes the codes, so both are the same by construction.
class TrainingGrid {
 public:
  /// `start`: the blocks whose scales are kept or learned; empty with recomputed. Types without scales (f16) are recomputed in any case.
  TrainingGrid(std::map<std::string, GgmlType> types, ImportanceMap importance, std::map<std::string, QuantizedTensor> start,
               TrainingGridOptions options);
  /// Low-rank products are added to the weights before they are rounded.
  void set_adapters(std::shared_ptr<const LoraAdapters> adapters) { adapters_ = std::move(adapters); }
  /// The hook for the decoder; it must not outlive the grid.
  Decoder::WeightHook hook();
  /// Learned scales by name ("NAME.scales"), (rows, blocks, 1 or 2) float32 with gradient; empty unless learned.
  std::vector<std::pair<std::string, at::Tensor>> parameters() const;
  /// Before step `step` (from 0): up to the delay the hook passes weights on; when it ends, learned scales are found from `weights`.
  void begin_step(int64_t step, const StateDict& weights);
  /// Whether what a step computes changes in mid-training.
  bool changes() const { return options_.delay > 0; }
  /// For held-out rows: the grid in any case (before the delay has ended as ggml rounds). begin_step ends it.
  void judge() { judging_ = true; }
  /// Codes of the model's weights as the hook would see them; `weights` become exactly their values.
  void write(Checkpoint& model) const;

 private:
  at::Tensor merged(const std::string& name, const at::Tensor& weight) const;
  bool has_own_scales(const std::string& name) const { return options_.scales != Scales::recomputed && start_.count(name) > 0; }
  QuantizedTensor grid_of(const std::string& name) const;
  std::map<std::string, GgmlType> types_;
  ImportanceMap importance_;
  std::map<std::string, QuantizedTensor> start_;
  TrainingGridOptions options_;
  std::map<std::string, at::Tensor> learned_;
  std::shared_ptr<const LoraAdapters> adapters_;
  bool on_, judging_ = false;
};

/// Where training begins so that its first forward pass has the codes of `solution`: the weight itself where it rounds to that code, else the
/// code's value.
at::Tensor weight_on_solution(const at::Tensor& weight, const QuantizedTensor& solution);

}  // namespace attar
