#include "quant/rounding.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "calibrate/kept_layers.h"
#include "quant/learned_rounding.h"

namespace attar {
namespace {

constexpr int64_t kJudgements = 4;  ///< times that all rows judge the codes of a layer, after the first

/// Everything that a layer's codes follow from, as text.
std::string inputs_of_rounding(const Checkpoint& model, const std::map<std::string, QuantizedTensor>& start, const TokenRows& rows,
                               const LayerWalkOptions& walk, const RoundingOptions& options) {
  Sha256 codes;
  for (const auto& [name, tensor] : start) {
    codes.add(str(name, " ", ggml_type_info(tensor.type).name, " "));
    for (const at::Tensor& part : {tensor.blocks, tensor.scales})
      if (part.defined()) codes.add(part.contiguous().const_data_ptr(), part.nbytes());
  }
  return str("rounding ", checkpoint_fingerprint(model), " ", codes.hex(), " ", rows.fingerprint, " ", walk.rows, " ", walk.batch, " ", options.steps,
             " ", options.rows, " ", options.size, " ", options.scales, " ", options.seed);
}

/// The calibration rows before and behind one layer, and its codes while they are learned.
class LayerRounding {
 public:
  /// `decoder` computes with the codes; `inputs`: its walk, before a layer; `targets`: the other's, behind it. `rows` in all, `batch` in a part.
  LayerRounding(Decoder& decoder, const LayerWalk& inputs, const LayerWalk& targets, int64_t rows, int64_t batch, const RoundingOptions& options)
      : decoder_(&decoder), group_(&inputs.group()), layer_(inputs.layer()), rows_(rows), batch_(batch), inputs_(&inputs.parts()),
        targets_(&targets.parts()), options_(&options) {}

  void add(const std::string& name, const at::Tensor& weight, const QuantizedTensor& start) {
    weights_[name] = std::make_unique<LearnedRounding>(weight, start, options_->scales);
    best_[name] = start;
    decoder_->weights().at(name) = dequantize_tensor(start);
  }

  RoundedLayer run(const std::function<void(int64_t step)>& after_step) {
    RoundedLayer out{error(), 0};
    out.after = out.before;
    if (weights_.empty()) return out;
    const int64_t steps = options_->steps, quarter = std::max<int64_t>(1, steps / kJudgements);
    const double size = options_->size > 0 ? options_->size : 1.0 / static_cast<double>(steps);
    show_values();
    for (int64_t step = 0; step < steps; ++step) {
      descend(rows_of_step(step), size * (1 - static_cast<double>(step) / static_cast<double>(steps)));
      show_values();
      if (step + 1 == steps || (step + 1) % quarter == 0) keep_if_better(out);
      after_step(step);
    }
    for (const auto& [name, codes] : best_) decoder_->weights().at(name) = dequantize_tensor(codes);
    return out;
  }

  const std::map<std::string, QuantizedTensor>& codes() const { return best_; }

 private:
  /// The numbers of a step's rows: passes over all of them, each in its own order.
  std::vector<int64_t> rows_of_step(int64_t step) const {
    std::vector<int64_t> out, order;
    const int64_t count = std::min(options_->rows, rows_);
    for (int64_t n = step * count, pass = -1; n < (step + 1) * count; ++n) {
      if (n / rows_ != pass) pass = n / rows_, order = permutation(rows_, options_->seed, stream_of(str("layer ", layer_, " pass ", pass)));
      out.push_back(order[static_cast<size_t>(n % rows_)]);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  /// The values of the codes as they stand, as leaves of a graph.
  void show_values() {
    for (auto& [name, weight] : weights_) decoder_->weights().at(name) = weight->values().requires_grad_(true);
  }

  at::Tensor difference(const at::Tensor& states, const TokenBatch& tokens, const at::Tensor& valid, const at::Tensor& wanted) const {
    const at::Tensor off = (decoder_->after_layer(layer_, states, tokens) - wanted).reshape({-1, states.size(-1)});
    return valid.all().item<bool>() ? off : off.index({valid});
  }

  /// Mean over all rows of all ranks.
  double error() const {
    at::NoGradGuard no_grad;
    at::Tensor sums = at::zeros({2}, at::kDouble);
    for (size_t p = 0; p < inputs_->size(); ++p) {
      const LayerWalk::Part& part = (*inputs_)[p];
      const at::Tensor off = difference(part.states, part.tokens, part.valid, (*targets_)[p].states);
      sums[0] += off.square().sum(at::kDouble);
      sums[1] += static_cast<double>(off.numel());
    }
    group_->all_reduce_sum(sums);
    return sums[0].item<double>() / sums[1].item<double>();
  }

  void keep_if_better(RoundedLayer& out) {
    const double now = error();
    if (!(now < out.after)) return;
    out.after = now;
    for (const auto& [name, weight] : weights_) best_.at(name) = weight->codes();
  }

  /// One step over `rows`, of which this rank takes those that it holds.
  void descend(const std::vector<int64_t>& rows, double size) {
    int64_t length = 0;
    std::vector<std::pair<size_t, int64_t>> held;  // parts, and rows in them
    for (const int64_t row : rows) {
      if (row / batch_ % group_->size() != group_->rank()) continue;
      const auto part = static_cast<size_t>(row / batch_ / group_->size());
      held.push_back({part, row % batch_});
      length = std::max(length, (*inputs_)[part].states.size(1));
    }
    // Batches are as long as their longest row.
    const auto longer = [&](const at::Tensor& of_row, double fill) {
      const int64_t more = length - of_row.size(0);
      std::vector<int64_t> margins(static_cast<size_t>(2 * of_row.dim()), 0);
      margins.back() = more;
      return more == 0 ? of_row : at::constant_pad_nd(of_row, margins, fill);
    };
    std::vector<at::Tensor> states, ids, segments, valid, wanted;
    for (const auto& [p, r] : held) {
      const LayerWalk::Part& part = (*inputs_)[p];
      const int64_t positions = part.states.size(1);
      states.push_back(longer(part.states[r], 0)), wanted.push_back(longer((*targets_)[p].states[r], 0));
      ids.push_back(longer(part.tokens.ids[r], 0)), segments.push_back(longer(part.tokens.segments[r], -1));
      valid.push_back(longer(part.valid.narrow(0, r * positions, positions), 0));
    }
    if (!states.empty()) {
      at::AutoGradMode learning(true);
      difference(at::stack(states), {at::stack(ids), at::stack(segments), {}, {}}, at::cat(valid), at::stack(wanted)).square().sum().backward();
    }
    at::NoGradGuard no_grad;
    for (auto& [name, weight] : weights_) {
      const at::Tensor& values = decoder_->weights().at(name);
      at::Tensor gradient = values.grad().defined() ? values.grad().contiguous() : at::zeros_like(values);
      group_->all_reduce_sum(gradient);
      weight->descend(weight->slopes(gradient), size);
    }
  }

  Decoder* decoder_;
  ProcessGroup* group_;
  int64_t layer_, rows_, batch_;
  const std::vector<LayerWalk::Part>* inputs_;
  const std::vector<LayerWalk::Part>* targets_;
  const RoundingOptions* options_;
  std::map<std::string, std::unique_ptr<LearnedRounding>> weights_;
  std::map<std::string, QuantizedTensor> best_;
};

}  // namespace

RoundingReport learn_rounding(Checkpoint& model, const std::map<std::string, QuantizedTensor>& start, const TokenRows& rows,
                              const LayerWalkOptions& options, const RoundingOptions& rounding, ProcessGroup& group, const fs::path& kept) {
  check(rounding.steps > 0 && rounding.rows > 0, "rounding", "a step and a row or more", str(rounding.steps, " steps, ", rounding.rows, " rows"));
  RoundingReport report;
  const KeptLayers layers(kept, kept.empty() ? std::string() : inputs_of_rounding(model, start, rows, options, rounding), group);
  Decoder original(model.spec, model.weights);
  for (const auto& [name, codes] : start) model.codes[name] = codes, model.weights.at(name) = dequantize_tensor(codes);
  Decoder decoder(model.spec, model.weights);
  LayerWalk targets(original, rows, options, group), inputs(decoder, rows, options, group);

  Progress progress("rounding", inputs.layers() * rounding.steps, "steps");
  for (; inputs.layer() < inputs.layers(); inputs.advance()) {
    const int64_t layer = inputs.layer(), before = layer * rounding.steps;
    targets.advance();
    std::vector<std::string> names;
    for (const std::vector<std::string>& group_names : input_groups(layer))
      for (const std::string& name : group_names)
        if (start.count(name)) (rounding_can_learn(start.at(name).type) ? names : report.not_learned).push_back(name);
    const auto put = [&](const std::string& name, const at::Tensor& blocks) {
      model.codes.at(name).blocks = blocks;
      decoder.weights().at(name) = model.weights.at(name) = dequantize_tensor(model.codes.at(name));
    };
    if (const std::optional<KeptLayers::Layer> made = layers.read(layer)) {
      for (const std::string& name : names) put(name, made->tensors.at(name));
      report.layers.push_back({made->facts.at("before").get<double>(), made->facts.at("after").get<double>()});
      progress.start_at(before + rounding.steps);
      continue;
    }
    LayerRounding learned(decoder, inputs, targets, std::min(options.rows, rows.rows()), options.batch, rounding);
    for (const std::string& name : names) learned.add(name, original.weights().at(name), start.at(name));
    const RoundedLayer errors = learned.run([&](int64_t step) {
      progress.update(before + step + 1, str("layer ", layer + 1));
      if (step + 1 < rounding.steps) layers.stop_if_asked();
    });
    KeptLayers::Layer done;
    for (const auto& [name, codes] : learned.codes()) put(name, codes.blocks), done.tensors[name] = codes.blocks;
    done.facts = {{"before", errors.before}, {"after", errors.after}};
    layers.write(layer, done);
    layers.stop_if_asked();
    report.layers.push_back(errors);
    log_info(str("rounding: layer ", layer + 1, " of ", inputs.layers(), ": error ", errors.before, " -> ", errors.after));
  }
  progress.finish();
  return report;
}

}  // namespace attar
