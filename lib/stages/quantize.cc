#include "quant/quantize.h"

#include "base/check.h"
#include "base/log.h"
#include "stages/learn.h"

namespace attar {

void run_quantize(StageRun& run, const QuantConfig& config) {
  check(config.method == "ptq" || config.method == "qat", "method", "ptq or qat", config.method);
  const GgmlType type = ggml_type_named(config.scheme);
  check(ggml_type_info(type).quantized, "scheme", "a quantized type", config.scheme);
  Checkpoint model = load_model(*run.input("model"), config.method == "qat");
  const std::vector<std::string> names = quantized_names(model.spec, type, config.embeddings);
  if (config.method == "qat") {
    Learning learning{&model, {}, {}, config.data, config.loss, config.train, fake_quantization(type, names), {}};
    if (const fs::path* teacher = run.input("teacher")) {
      learning.teacher = *teacher;
    } else {
      auto original = std::make_shared<Checkpoint>(model);
      for (auto& [name, tensor] : original->weights) tensor = tensor.clone();
      learning.live_teacher = original;
    }
    learn(run, learning);
  }
  quantize_checkpoint(model, type, names);
  if (!run.license.empty()) model.license = run.license;
  save_checkpoint(model, run.out);
  run.facts["parameters"] = parameter_count(model.spec);
  run.facts["scheme"] = config.scheme;
  run.facts["quantized_tensors"] = names.size();
  log_info(str(run.label, ": ", names.size(), " weights on the grid of ", config.scheme));
}

}  // namespace attar
