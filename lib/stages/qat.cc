#include "stages/qat.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/log.h"
#include "quant/activations.h"
#include "quant/kept_scales.h"
#include "quant/training_grid.h"
#include "stages/grid_solution.h"
#include "stages/learn.h"

namespace attar {
namespace {

Scales scales_of(const QuantConfig& config) {
  if (config.scales == "learned") return Scales::learned;
  if (config.scales == "kept") return Scales::kept;
  return config.scales == "auto" && config.start != "round" ? Scales::kept : Scales::recomputed;
}

/// Scales that a type has several of, or not in fp16, stay as they are: said once.
void say_what_cannot_learn(const StageRun& run, const TypePlan& plan, bool delayed) {
  std::string first;
  size_t kept = 0;
  for (const auto& [name, type] : plan.types)
    if (!scales_can_learn(type) && kept++ == 0) first = str(name, ", ", ggml_type_info(type).name);
  check(kept < plan.types.size(), "scales: learned", "a type with one scale a block (q4_0, q4_1, q5_0, q5_1, q8_0, tq1_0, tq2_0) or a row (int8)",
        first, "take scales: kept");
  if (kept > 0)
    log_warn(str(run.label, ": scales of ", kept, " weights (", first, kept > 1 ? ", ...)" : ")", " are ", delayed ? "recomputed" : "kept",
                 ", not learned"));
}

}  // namespace

void check_qat(const QuantConfig& config) {
  const auto one_of = [](const std::string& key, const std::string& value, const std::vector<std::string>& allowed, const std::string& words) {
    check(std::find(allowed.begin(), allowed.end(), value) != allowed.end(), key, words, value);
  };
  one_of("start", config.start, {"round", "search", "gptq", "rounding"}, "round, search, gptq or rounding");
  check_solution(config, "start", config.start);
  one_of("scales", config.scales, {"auto", "recomputed", "kept", "learned"}, "auto, recomputed, kept or learned");
  one_of("activations", config.activations, {"none", "int8", "q8_0"}, "none, int8 or q8_0");
  one_of("masters", config.masters, {"none", "bf16", "f32"}, "none, bf16 or f32");
  check(config.delay >= 0 && config.delay < config.train.steps, "delay", str("0 to ", config.train.steps - 1, ", below train.steps"),
        std::to_string(config.delay));
  check(config.scale_lr >= 0 && config.scale_lr <= 1e3, "scale_lr", "0 or more", str(config.scale_lr));
  check(config.start == "round" || config.scales != "recomputed", "scales: recomputed", "start: round", "start: " + config.start,
        "scales computed anew would move the codes of that solution: take kept or learned");
  check(config.delay == 0 || scales_of(config) != Scales::kept, "delay", "scales that are recomputed or learned", "kept",
        "take scales: learned, or start: round");
  check(config.delay == 0 || !solution_reads_rows(config.start), "delay", "start: round or search", "start: " + config.start,
        "weights would move away from its codes before the grid comes");
}

void train_on_grid(StageRun& run, const QuantConfig& config, Checkpoint& model, const TypePlan& plan, const ImportanceMap& importance,
                   const std::shared_ptr<const Masks>& masks, const TokenRows& rows) {
  Learning learning{&model, {}, {}, config.data, config.loss, config.train, {}, config.lora};
  if (const fs::path* teacher = run.input("teacher")) {
    learning.teacher = *teacher;
  } else {
    auto original = std::make_shared<Checkpoint>(model);
    for (auto& [name, tensor] : original->weights) tensor = tensor.clone();
    learning.live_teacher = original;
  }
  const Scales scales = scales_of(config);
  if (scales == Scales::learned) say_what_cannot_learn(run, plan, config.delay > 0);
  std::map<std::string, QuantizedTensor> start;
  if (scales != Scales::recomputed) {
    Checkpoint solved = model;  // tensors are replaced, not written to
    solve_on_grid(run, config, config.start, solved, plan, importance, rows);
    start = std::move(solved.codes);
    if (config.delay == 0)
      for (const auto& [name, blocks] : start) model.weights.at(name) = weight_on_solution(model.weights.at(name), blocks);
  }
  learning.grid = std::make_shared<TrainingGrid>(
      plan.types, importance, std::move(start),
      TrainingGridOptions{scales, config.start == "search" ? Rounding::search : Rounding::ggml, config.delay, run.device});
  learning.scale_lr = config.scale_lr;
  if (config.activations != "none") {
    std::set<std::string> names;
    for (const auto& [name, type] : plan.types)
      if (has_scales(type)) names.insert(name);
    learning.input_hook = fake_activations(std::move(names), config.activations == "int8" ? ActivationGrid::int8 : ActivationGrid::q8_0);
  }
  learning.masks = masks;
  learn(run, learning);
  if (config.masters != "none") {
    fs::create_directories(run.out / "masters");
    save_checkpoint(model, run.out / "masters", config.masters == "bf16" ? at::kBFloat16 : at::kFloat);
  }
  learning.grid->write(model);
  run.facts["qat"] = {{"start", config.start},
                      {"scales", scales == Scales::learned ? "learned" : scales == Scales::kept ? "kept" : "recomputed"},
                      {"delay", config.delay},
                      {"activations", config.activations}};
}

}  // namespace attar
