#include "base/check.h"
#include "base/log.h"
#include "model/init_layers.h"
#include "spec/model_config.h"
#include "stages/learn.h"
#include "stages/masked.h"
#include "teacher/cache.h"

namespace attar {
namespace {

/// The tokenizer a new model is born with: the one named, else its teacher's.
std::shared_ptr<const Tokenizer> tokenizer_for(const StageRun& run) {
  if (const fs::path* given = run.input("tokens")) return load_tokenizer(*given);
  if (const fs::path* teacher = run.input("teacher")) {
    const fs::path folder = model_path(*teacher);
    if (has_tokenizer(folder)) return load_tokenizer(folder);
  }
  if (const fs::path* from = run.input("init.from")) return load_tokenizer(model_path(*from));
  fail("a model trained from nothing", "a tokenizer: tokens: <stage or path>, or a teacher that has one", "neither");
}

/// Weights out of the layers of a bigger model.
StateDict initial_weights(const Checkpoint& student, const fs::path& from, const InitConfig& config) {
  const Checkpoint given = load_model(from, true);
  check(given.tokenizer->fingerprint() == student.tokenizer->fingerprint(), "init.from " + from.string(), "the student's tokenizer",
        given.tokenizer->fingerprint().substr(0, 12) + " instead of " + student.tokenizer->fingerprint().substr(0, 12),
        "its embedding means nothing to another tokenizer");
  const auto wanted = static_cast<int64_t>(student.spec.layers.size()), there = static_cast<int64_t>(given.spec.layers.size());
  return weights_from_layers(student.spec, given, chosen_layers(config, wanted, there));
}

bool is_yaml(const fs::path& path) { return path.extension() == ".yaml" || path.extension() == ".yml"; }

}  // namespace

void run_distill(StageRun& run, const DistillConfig& config) {
  const fs::path model = *run.input("model");
  Checkpoint student;
  if (is_yaml(model)) {
    student.tokenizer = tokenizer_for(run);
    student.spec = spec_from_model_config(read_fields<ModelConfig>(read_yaml(model), ""), student.tokenizer->size());
    student.spec.bos = student.tokenizer->bos().value_or(-1);
    student.spec.pad = student.tokenizer->pad().value_or(-1);
    if (student.tokenizer->eos()) student.spec.eos = {*student.tokenizer->eos()};
    if (const fs::path* from = run.input("init.from"))
      student.weights = initial_weights(student, *from, config.init);
    else
      student.weights = Decoder::random(student.spec, run.seed_of("weights")).weights();
  } else {
    check(!run.input("init.from"), "init.from", "a new student: model: configs/models/*.yaml", model.string() + ", which has weights",
          "leave init out, or name a model file");
    student = load_model(model, true);
    if (const fs::path* given = run.input("tokens"))
      check(load_tokenizer(*given)->fingerprint() == student.tokenizer->fingerprint(), "tokens", "the tokenizer of " + model.string(),
            given->string(), "leave tokens out: a trained model keeps its own");
  }
  if (!run.license.empty()) student.license = run.license;
  if (!run.base_model.empty()) student.base_model = run.base_model;
  Learning learning{&student, {}, {}, config.data, config.loss, config.train, {}, config.lora};
  if (const fs::path* teacher = run.input("teacher")) learning.teacher = *teacher;
  if (!is_yaml(model)) learning.masks = masks_of(model, student.spec);
  learn(run, learning);
  save_checkpoint(student, run.out);
  keep_masks(run, learning.masks, student);
  run.facts["parameters"] = parameter_count(student.spec);
}

}  // namespace attar
