#include "prune/prune.h"

#include "base/check.h"
#include "base/log.h"
#include "stages/stage.h"

namespace attar {

void run_prune(StageRun& run, const PruneConfig& config) {
  Checkpoint model = load_model(*run.input("model"), config.criterion == "activation");
  ActivationStatistics statistics;
  if (config.criterion == "activation") {
    const fs::path kept = run.work / "statistics.safetensors";
    if (fs::exists(kept)) {
      statistics = load_statistics(kept);
    } else {
      const PreparedRows rows = prepare_rows(run, config.data, *model.tokenizer, model.spec.context);
      Decoder decoder(model.spec, model.weights);
      statistics = collect_activations(decoder, rows.train, config.calibration_rows, 16);
      save_statistics(statistics, kept);
    }
    fs::copy_file(kept, run.out / "statistics.safetensors", fs::copy_options::overwrite_existing);
  }
  Json report;
  const int64_t before = parameter_count(model.spec);
  Checkpoint pruned = prune(model, config, statistics, run.seed_of("prune"), report);
  if (!run.license.empty()) pruned.license = run.license;
  const int64_t after = parameter_count(pruned.spec);
  save_checkpoint(pruned, run.out);
  run.facts["parameters"] = after;
  run.facts["parameters_before"] = before;
  run.facts["pruned"] = report;
  log_info(str(run.label, ": ", human_count(static_cast<double>(before)), " parameters become ", human_count(static_cast<double>(after))));
}

}  // namespace attar
