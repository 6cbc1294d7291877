#pragma once
// A tokenizer and a model that has learned a little from made-up text, for tests of stages that judge models.
#include "base/check.h"
#include "base/files.h"
#include "device/device.h"
#include "stages/run.h"

namespace attar {

/// Runs one stage alone into root/out.
inline void run_stage_alone(const fs::path& root, const std::string& kind, const Json& configuration, const std::string& out) {
  LoneStage stage;
  stage.kind = kind, stage.configuration = configuration, stage.out = root / out, stage.seed = 3;
  run_lone_stage(stage);
}

/// root/NAME: a model with a vocabulary of its own of `vocab` tokens.
inline fs::path train_small_model(const fs::path& root, const std::string& name, int64_t vocab) {
  set_up_machine(1);
  make_folder(root);
  std::string text;
  for (int i = 0; i < 120; ++i) text += str("The ", i % 7, "th parcel of street ", i % 11, " was sent on day ", i % 5, " and came late.\n\n");
  write_file(root / "text.txt", text);
  write_file(root / "model.yaml",
             "hidden_size: 32\nintermediate_size: 64\nnum_hidden_layers: 1\nnum_attention_heads: 2\nnum_key_value_heads: 1\n"
             "max_position_embeddings: 128\n");
  run_stage_alone(root, "train_tokenizer", {{"data", (root / "text.txt").string()}, {"vocab_size", vocab}}, name + "_tokens");
  run_stage_alone(root, "distill", {{"model", (root / "model.yaml").string()}, {"tokens", (root / (name + "_tokens")).string()},
                                    {"data", {{"path", (root / "text.txt").string()}, {"seq", 32}}},
                                    {"train", {{"steps", 20}, {"batch", 4}, {"warmup", 1}, {"lr", 0.01}, {"eval_every", 1000}}}}, name);
  return root / name;
}

}  // namespace attar
