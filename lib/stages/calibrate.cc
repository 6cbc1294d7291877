#include "base/check.h"
#include "base/log.h"
#include "calibrate/importance.h"
#include "dist/process_group.h"
#include "stages/stage.h"

namespace attar {

void run_calibrate(StageRun& run, const CalibrateConfig& config) {
  const Checkpoint model = load_model(*run.input("model"), true);
  const auto group = process_group_from_environment();
  const PreparedRows rows = prepare_rows(run, config.data, *model.tokenizer, model.spec.context);
  Decoder decoder(model.spec, model.weights);
  ActivationStatistics statistics =
      collect_activations(decoder, rows.train, {.rows = config.calibration_rows, .partial = run.work / "sums.safetensors"}, *group);
  statistics.model = checkpoint_fingerprint(model);
  save_statistics(statistics, run.out / "statistics.safetensors");
  Imatrix imatrix = importance_matrix(statistics, model.spec);
  const fs::path* text = run.input("data.path");
  imatrix.dataset = text ? text->filename().string() : run.task ? fs::path(run.task->train).filename().string() : "";
  write_imatrix(imatrix, run.out / "imatrix.gguf");
  run.facts["tokens"] = statistics.tokens;
  run.facts["rows"] = statistics.rows;
  run.facts["model"] = statistics.model;
  run.facts["matrices"] = imatrix.means.size();
  log_info(str(run.label, ": ", statistics.tokens, " tokens, ", imatrix.means.size(), " matrices in imatrix.gguf"));
}

}  // namespace attar
