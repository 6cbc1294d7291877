#include "teacher/capture.h"

#include "base/check.h"
#include "base/log.h"
#include "stages/stage.h"

namespace attar {

void run_capture(StageRun& run, const CaptureConfig& config) {
  Checkpoint teacher = load_model(*run.input("teacher"), !run.input("tokens"));
  if (const fs::path* given = run.input("tokens")) {
    const auto tokenizer = load_tokenizer(*given);
    check(!teacher.tokenizer || tokenizer->fingerprint() == teacher.tokenizer->fingerprint(), "tokens", "the teacher's tokenizer", given->string(),
          "its ids would mean other words to the teacher");
    teacher.tokenizer = tokenizer;
  }
  const PreparedRows rows = prepare_rows(run, config.data, *teacher.tokenizer, teacher.spec.context);
  CacheIdentity identity;
  identity.teacher = checkpoint_fingerprint(teacher);
  identity.tokenizer = teacher.tokenizer->fingerprint();
  identity.data = rows.train.data_hash;
  identity.rows = rows.train.fingerprint;
  identity.vocab = std::min(teacher.spec.vocab, teacher.tokenizer->size());
  identity.temperature = config.temperature;
  identity.seed = run.seed_of("draws");
  identity.codec = config.codec;
  Decoder decoder(teacher.spec, std::move(teacher.weights));
  if (run.device != at::kCPU)
    for (auto& [name, tensor] : decoder.weights()) tensor = tensor.to(run.device);
  const fs::path cache = run.work / "cache";
  make_folder(cache);
  run.facts["statistics"] = capture(decoder, rows.train, identity, config.batch, config.shard_rows, cache);
  run.facts["cache"] = read_json(cache / "manifest.json");
  run.facts["learned_tokens"] = rows.train.learned_tokens();
  run.facts["data_sha256"] = rows.train.data_hash;
  // Links, not moves: until the artifact is in place the work folder can still be resumed from.
  for (const auto& entry : fs::directory_iterator(cache))
    if (entry.path().extension() == ".h5") fs::create_hard_link(entry.path(), run.out / entry.path().filename());
  for (const TokenizerFile& file : teacher.tokenizer->files()) write_file(run.out / file.name, file.content);
}

}  // namespace attar
