#include "prune/prune.h"

#include "base/check.h"
#include "base/log.h"
#include "dist/process_group.h"
#include "prune/search.h"
#include "prune/vocabulary.h"
#include "stages/masked.h"
#include "stages/prune_search.h"

namespace attar {
namespace {

/// The same shape with zeros in it.
void run_mask(StageRun& run, const PruneConfig& config) {
  const bool widths = config.ffn < 1 || config.heads < 1 || config.kv_heads < 1 || config.hidden < 1 || config.depth < 1 || config.parameters > 0;
  check(!widths && config.vocabulary == 0 && !has_search(config.search), "method " + config.method, "a mask alone", "widths or a search too",
        "prune the structure in a stage of its own, before this one");
  const bool reads_text = needs_calibration(config);
  Checkpoint model = load_model(*run.input("model"), reads_text);
  const auto group = process_group_from_environment();
  PreparedRows rows;
  if (reads_text) rows = prepare_rows(run, config.data, *model.tokenizer, model.spec.context);
  const auto masks = std::make_shared<const Masks>(mask_model(model, config, reads_text ? &rows.train : nullptr, *group));
  if (!run.license.empty()) model.license = run.license;
  save_checkpoint(model, run.out);
  keep_masks(run, masks, model);
  run.facts["parameters"] = parameter_count(model.spec);
  run.facts["parameters_before"] = parameter_count(model.spec);
  log_info(run.label + ": " + mask_note(*masks, model.spec));
}

/// Statistics out of the stage's work folder, or collected into it.
ActivationStatistics statistics_of(StageRun& run, const Checkpoint& model, const TokenRows& rows, int64_t count, ProcessGroup& group) {
  const fs::path kept = run.work / "statistics.safetensors";
  if (fs::exists(kept)) return load_statistics(kept);
  Decoder decoder(model.spec, model.weights);
  ActivationStatistics statistics = collect_activations(decoder, rows, {.rows = count, .partial = run.work / "sums.safetensors"}, group);
  save_statistics(statistics, kept);
  return statistics;
}

}  // namespace

void run_prune(StageRun& run, const PruneConfig& config) {
  if (config.method != "structure") return run_mask(run, config);
  const bool searches = has_search(config.search), reads_text = needs_calibration(config) || config.vocabulary > 0 || searches;
  Checkpoint model = load_model(*run.input("model"), reads_text);
  check(!masks_of(*run.input("model"), model.spec), run.input("model")->string(), "a model without masks", "a masked one",
        "prune the structure first, then mask what is left");
  const auto group = process_group_from_environment();
  PreparedRows rows;
  PruneInput input{&model, &rows, {}, {}};
  if (reads_text) {
    rows = prepare_rows(run, config.data, *model.tokenizer, model.spec.context);
    input.evidence.rows = &rows.train;
  }
  if (needs_statistics(config)) {
    input.evidence.statistics = statistics_of(run, model, rows.train, config.calibration_rows, *group);
    fs::copy_file(run.work / "statistics.safetensors", run.out / "statistics.safetensors", fs::copy_options::overwrite_existing);
  }
  input.saliency = model_saliency(model, config, input.evidence, run.seed_of("prune"), *group);
  const PruneConfig used = searches ? searched(run, config, input, *group) : config;
  Json report;
  const int64_t before = parameter_count(model.spec);
  Checkpoint pruned = prune(model, used, input.evidence, input.saliency, *group, report);
  if (used.vocabulary > 0) {
    pruned = prune_vocabulary(pruned, all_counts(rows, model.spec.vocab), used.vocabulary);
    report["vocabulary_before"] = model.spec.vocab;
    report["vocabulary"] = pruned.spec.vocab;
  }
  if (!run.license.empty()) pruned.license = run.license;
  const int64_t after = parameter_count(pruned.spec);
  save_checkpoint(pruned, run.out);
  run.facts["parameters"] = after;
  run.facts["parameters_before"] = before;
  run.facts["pruned"] = report;
  log_info(str(run.label, ": ", human_count(static_cast<double>(before)), " parameters become ", human_count(static_cast<double>(after))));
}

}  // namespace attar
