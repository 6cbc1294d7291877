// One optimizer step of distillation, plain and through the grid, taking turns in one run.
//   qat_step_speed [SCHEME q4_0] [THREADS 2] [PAIRS 5] [HIDDEN 512] [LAYERS 4] [VOCAB 8192] [ROWS 8] [TOKENS 256]
// Teacher: a model of the same size, live, KL over the whole vocabulary. Both steps: teacher forward, student forward, loss, backward, AdamW.
// Schemes end in -kept, -learned or -lora for grids whose scales stay or learn, or for adapters of rank 16 on recomputed scales.
// Prints processor seconds of each turn, the medians' ratio, and the elements that AdamW keeps moments for.
#include <ATen/ATen.h>

#include <algorithm>
#include <ctime>
#include <iostream>

#include "device/device.h"
#include "distill/distill_loss.h"
#include "quant/kept_scales.h"
#include "quant/training_grid.h"
#include "quant/type_plan.h"
#include "teacher/capture.h"
#include "train/adamw.h"

namespace attar {
namespace {

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// A student with its optimizer; `grid` may be null.
struct Student {
  Decoder decoder;
  std::unique_ptr<TrainingGrid> grid;
  std::shared_ptr<LoraAdapters> adapters;
  std::shared_ptr<ProcessGroup> group = process_group_from_environment();
  std::unique_ptr<AdamW> optimizer;

  Student(const ModelSpec& spec, const std::string& scheme) : decoder(Decoder::random(spec, 2)) {
    const std::string type = scheme.substr(0, scheme.find('-')), kind = scheme.substr(std::min(scheme.size(), type.size()));
    std::vector<TrainParameter> parameters;
    if (!scheme.empty()) {
      const TypePlan plan = plan_types(spec, type, false, true, false);
      std::map<std::string, QuantizedTensor> start;
      if (kind == "-kept" || kind == "-learned")
        for (const auto& [name, one] : plan.types) start[name] = quantize_tensor(decoder.weights().at(name), one);
      const Scales scales = kind == "-kept" ? Scales::kept : kind == "-learned" ? Scales::learned : Scales::recomputed;
      grid = std::make_unique<TrainingGrid>(plan.types, ImportanceMap(), std::move(start), TrainingGridOptions{.scales = scales});
      if (kind == "-lora") {
        LoraConfig config;
        config.rank = 16;
        adapters = std::make_shared<LoraAdapters>(spec, config, 3);
        adapters->require_grad(true);
        grid->set_adapters(adapters);
        for (const auto& [name, pair] : adapters->pairs()) {
          parameters.push_back({name + ".A", pair.a});
          parameters.push_back({name + ".B", pair.b});
        }
      }
      decoder.set_weight_hook(grid->hook());
      for (const auto& [name, tensor] : grid->parameters()) parameters.push_back({name, tensor, false});
    }
    decoder.require_grad(!adapters);
    if (!adapters)
      for (const auto& [name, tensor] : decoder.weights()) parameters.push_back({name, tensor});
    optimizer = std::make_unique<AdamW>(parameters, TrainConfig(), *group);
  }

  double step(const Decoder& teacher, const Batch& batch) {
    const double begin = processor_seconds();
    optimizer->zero();
    const LogitTargets targets = live_targets(teacher, batch);
    LossWeights weights;
    weights.kl = 1;
    const at::Tensor hidden = decoder.hidden({batch.at("ids"), batch.at("segments"), {}, {}});
    const DistillLoss loss = distill_loss(hidden.reshape({-1, hidden.size(-1)}), decoder.output_weight(), targets, batch.at("labels").reshape({-1}),
                                          {}, weights, 0, decoder.spec().vocab);
    loss.sum.backward();
    optimizer->step(1e-4, static_cast<double>(batch.at("labels").numel()));
    return processor_seconds() - begin;
  }
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace
}  // namespace attar

int main(int count, char** words) {
  using namespace attar;
  try {
    const auto number = [&](int at, int64_t otherwise) { return count > at ? static_cast<int64_t>(std::stoll(words[at])) : otherwise; };
    const std::string scheme = count > 1 ? words[1] : "q4_0";
    set_up_machine(number(2, 2));
    ModelSpec spec;
    spec.hidden = number(4, 512), spec.vocab = number(6, 8192), spec.head_size = 64, spec.context = number(8, 256), spec.tied = true;
    const int64_t heads = spec.hidden / 64;
    spec.layers.assign(static_cast<size_t>(number(5, 4)), LayerSpec{.ffn = 3 * spec.hidden, .heads = heads, .kv_heads = heads});
    const Decoder teacher = Decoder::random(spec, 1);
    Student plain(spec, ""), quantized(spec, scheme);
    Batch batch;
    const int64_t rows = number(7, 8);
    batch.columns["ids"] = at::arange(rows * spec.context).remainder(spec.vocab).view({rows, spec.context});
    batch.columns["labels"] = (batch.at("ids") + 1).remainder(spec.vocab);
    batch.columns["segments"] = at::zeros({rows, spec.context}, at::kInt);
    std::vector<double> without, with;
    plain.step(teacher, batch), quantized.step(teacher, batch);
    for (int64_t pair = 0; pair < number(3, 5); ++pair) {
      without.push_back(plain.step(teacher, batch)), with.push_back(quantized.step(teacher, batch));
      std::cout << "plain " << without.back() << " s, " << scheme << " " << with.back() << " s of processors" << std::endl;
    }
    std::cout << "ratio " << median(with) / median(without) << "; moments of " << plain.optimizer->held_elements() << " and "
              << quantized.optimizer->held_elements() << " elements" << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
}
