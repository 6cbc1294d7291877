#include "prune/prune.h"

#include "base/check.h"
#include "base/log.h"
#include "dist/process_group.h"
#include "prune/vocabulary.h"
#include "stages/stage.h"

namespace attar {

void run_prune(StageRun& run, const PruneConfig& config) {
  const bool reads_text = needs_calibration(config) || config.vocabulary > 0;
  Checkpoint model = load_model(*run.input("model"), reads_text);
  const auto group = process_group_from_environment();
  PreparedRows rows;
  PruneEvidence evidence;
  if (reads_text) {
    rows = prepare_rows(run, config.data, *model.tokenizer, model.spec.context);
    evidence.rows = &rows.train;
  }
  if (needs_statistics(config)) {
    const fs::path kept = run.work / "statistics.safetensors";
    if (fs::exists(kept)) {
      evidence.statistics = load_statistics(kept);
    } else {
      Decoder decoder(model.spec, model.weights);
      evidence.statistics = collect_activations(decoder, rows.train, {.rows = config.calibration_rows, .partial = run.work / "sums.safetensors"}, *group);
      save_statistics(evidence.statistics, kept);
    }
    fs::copy_file(kept, run.out / "statistics.safetensors", fs::copy_options::overwrite_existing);
  }
  Json report;
  const int64_t before = parameter_count(model.spec);
  Checkpoint pruned = prune(model, config, evidence, run.seed_of("prune"), *group, report);
  if (config.vocabulary > 0) {
    std::vector<int64_t> counts = token_counts(rows.train, model.spec.vocab);
    const std::vector<int64_t> held = token_counts(rows.held, model.spec.vocab);
    for (size_t id = 0; id < counts.size(); ++id) counts[id] += held[id];
    pruned = prune_vocabulary(pruned, counts, config.vocabulary);
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
