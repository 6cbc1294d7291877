#include <algorithm>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "stages/stage.h"

namespace attar {

const fs::path* StageRun::input(const std::string& key) const {
  const auto found = inputs.find(key);
  return found == inputs.end() ? nullptr : &found->second;
}

uint64_t StageRun::seed_of(const std::string& purpose) const { return seed ^ stream_of(id + "/" + purpose); }

Checkpoint load_model(const fs::path& artifact, bool need_tokenizer) {
  const fs::path path = model_path(artifact);
  Checkpoint model = load_checkpoint(path);
  if (need_tokenizer) check_tokenizer(model, path);
  return model;
}

void check_tokenizer(const Checkpoint& model, const fs::path& path) {
  check(model.tokenizer != nullptr, path.string(), "a model with its tokenizer", "none beside it", "copy tokenizer.model or tokenizer.json there");
}

LossWeights loss_weights(const LossConfig& c, bool teacher) {
  LossWeights w;
  const bool named = c.kl || c.ce || c.rkl || c.jsd || c.skl || c.srkl || c.tvd;
  w.kl = c.kl.value_or(teacher && !named ? 1 : 0);
  w.ce = c.ce.value_or(!teacher && !named ? 1 : 0);
  w.rkl = c.rkl.value_or(0), w.jsd = c.jsd.value_or(0), w.skl = c.skl.value_or(0), w.srkl = c.srkl.value_or(0), w.tvd = c.tvd.value_or(0);
  w.temperature = c.temperature, w.beta = c.beta, w.lambda = c.lambda;
  check(c.top_k == "ghost" || c.top_k == "dropped", "loss.top_k", "ghost or dropped", c.top_k);
  check(w.temperature > 0, "loss.temperature", "above 0", std::to_string(w.temperature));
  check(teacher || !w.needs_teacher(), "loss", "a teacher for its terms", "none", "name a teacher, or use ce alone");
  check(w.needs_teacher() || w.ce > 0, "loss", "a term of weight above 0", "none");
  return w;
}

void run_stage(const std::string& kind, StageRun& run, const Json& configuration) {
  const Node node = from_json(configuration);
  const auto as = [&]<class Config>(Config) { return read_fields<Config>(node, run.id); };
  if (kind == "train_tokenizer") return run_train_tokenizer(run, as(TrainTokenizerConfig{}));
  if (kind == "distill") return run_distill(run, as(DistillConfig{}));
  if (kind == "capture") return run_capture(run, as(CaptureConfig{}));
  if (kind == "synthesize") return run_synthesize(run, as(SynthesizeConfig{}));
  if (kind == "prune") return run_prune(run, as(PruneConfig{}));
  if (kind == "calibrate") return run_calibrate(run, as(CalibrateConfig{}));
  if (kind == "quantize") return run_quantize(run, as(QuantConfig{}));
  if (kind == "export") return run_export(run, as(ExportConfig{}));
  if (kind == "evaluate") return run_evaluate(run, as(EvaluateConfig{}));
  if (kind == "route") return run_route(run, as(RouteConfig{}));
  fail("stage kind", "one that attar knows", kind);
}

}  // namespace attar
