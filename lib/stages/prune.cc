#include "prune/prune.h"

#include "base/check.h"
#include "base/log.h"
#include "dist/process_group.h"
#include "prune/search.h"
#include "prune/statistics_masks.h"
#include "prune/surgery.h"
#include "prune/vocabulary.h"
#include "stages/masked.h"
#include "stages/prune_search.h"

namespace attar {
namespace {

/// What a calibrate stage collected, of this very model.
ActivationStatistics given_statistics(const fs::path& given, const Checkpoint& model) {
  const fs::path file = fs::is_directory(given) ? given / "statistics.safetensors" : given;
  check(fs::exists(file), "calibration " + given.string(), "a calibrate stage, or its statistics.safetensors", "none there");
  ActivationStatistics statistics = load_statistics(file);
  const std::string own = checkpoint_fingerprint(model);
  check(statistics.model == own, "calibration " + given.string(), "statistics of the model that is pruned, " + own.substr(0, 16),
        statistics.model.empty() ? "no word on whose they are" : "those of " + statistics.model.substr(0, 16), "calibrate that model");
  return statistics;
}

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
  const fs::path* given = run.input("calibration");
  const auto masks = std::make_shared<const Masks>(
      given ? mask_by_statistics(model, config, given_statistics(*given, model))
            : mask_model(model, config, reads_text ? &rows.train : nullptr, *group, run.work / "layers"));
  if (!run.license.empty()) model.license = run.license;
  save_checkpoint(model, run.out);
  keep_masks(run, masks, model);
  run.facts["parameters"] = parameter_count(model.spec);
  run.facts["parameters_before"] = parameter_count(model.spec);
  log_info(run.label + ": " + mask_note(*masks, model.spec));
}

/// The model to be cut. Its tensors can stay in their file, read only, unless a search trains candidates that share some of them.
Checkpoint model_to_cut(const fs::path& artifact, bool searches, bool need_tokenizer) {
  if (searches) return load_model(artifact, need_tokenizer);
  const fs::path path = model_path(artifact);
  Checkpoint model = load_to_cut(path);
  if (need_tokenizer) check_tokenizer(model, path);
  return model;
}

/// Those of a calibrate stage; else out of the stage's work folder, or collected into it.
ActivationStatistics statistics_of(StageRun& run, const Checkpoint& model, const TokenRows& rows, int64_t count, ProcessGroup& group) {
  if (const fs::path* given = run.input("calibration")) return given_statistics(*given, model);
  const fs::path kept = run.work / "statistics.safetensors";
  ActivationStatistics statistics;
  if (fs::exists(kept)) {
    statistics = load_statistics(kept);
  } else {
    Decoder decoder(model.spec, model.weights);
    statistics = collect_activations(decoder, rows, {.rows = count, .partial = run.work / "sums.safetensors"}, group);
    statistics.model = checkpoint_fingerprint(model);
    save_statistics(statistics, kept);
  }
  fs::copy_file(kept, run.out / "statistics.safetensors", fs::copy_options::overwrite_existing);
  return statistics;
}

}  // namespace

void run_prune(StageRun& run, const PruneConfig& config) {
  check(config.calibration.empty() || needs_statistics(config), "calibration", "criterion activation, or method wanda",
        config.method == "structure" ? "criterion " + config.criterion : "method " + config.method, "leave calibration out");
  if (config.method != "structure") return run_mask(run, config);
  const bool searches = has_search(config.search), reads_text = needs_calibration(config) || config.vocabulary > 0 || searches;
  Checkpoint model = model_to_cut(*run.input("model"), searches, reads_text);
  check(!masks_of(*run.input("model"), model.spec), run.input("model")->string(), "a model without masks", "a masked one",
        "prune the structure first, then mask what is left");
  const auto group = process_group_from_environment();
  PreparedRows rows;
  PruneInput input{&model, &rows, {}, {}};
  if (reads_text) {
    rows = prepare_rows(run, config.data, *model.tokenizer, model.spec.context);
    input.evidence.rows = &rows.train;
  }
  if (needs_statistics(config)) input.evidence.statistics = statistics_of(run, model, rows.train, config.calibration_rows, *group);
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
