#include "teacher/capture.h"

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "http/client.h"
#include "stages/stage.h"
#include "teacher/import_logits.h"
#include "teacher/server_teacher.h"

namespace attar {
namespace {

/// What a capture reads and what decides who it is, whoever the teacher is.
struct CapturePlan {
  PreparedRows rows;
  CacheIdentity identity;
  fs::path cache;
  ShardRange range;
};

CapturePlan plan_capture(const StageRun& run, const CaptureConfig& config, const Tokenizer& tokenizer, int64_t context, const std::string& teacher,
                         int64_t vocab) {
  CapturePlan out;
  out.rows = prepare_rows(run, config.data, tokenizer, context);
  out.identity.teacher = teacher;
  out.identity.tokenizer = tokenizer.fingerprint();
  out.identity.data = out.rows.train.data_hash;
  out.identity.rows = out.rows.train.fingerprint;
  out.identity.vocab = vocab;
  out.identity.temperature = config.temperature;
  out.identity.seed = run.seed_of("draws");
  out.identity.codec = config.codec;
  out.cache = run.work / "cache";
  out.range = ShardRange::parse(config.shards);
  make_folder(out.cache);
  return out;
}

/// The cache's files into the artifact. Links, not moves: until the artifact is in place the work folder can still be resumed from.
void place_cache(StageRun& run, const fs::path& cache, bool whole) {
  for (const auto& entry : fs::directory_iterator(cache)) {
    const std::string name = entry.path().filename().string();
    const bool part = name == "capture.json" || (name.starts_with("rows-") && name.ends_with(".json"));
    if (name.ends_with(".h5") || (part && !whole)) fs::create_hard_link(entry.path(), run.out / name);
  }
  if (whole) run.facts["cache"] = read_json(cache / "manifest.json");
}

void finish_capture(StageRun& run, const CapturePlan& plan, const CaptureConfig& config, const Tokenizer& tokenizer, Json statistics) {
  run.facts["statistics"] = std::move(statistics);
  if (!plan.range.whole()) run.facts["part"] = config.shards;
  run.facts["learned_tokens"] = plan.rows.train.learned_tokens();
  run.facts["data_sha256"] = plan.rows.train.data_hash;
  place_cache(run, plan.cache, plan.range.whole());
  for (const TokenizerFile& file : tokenizer.files()) {
    make_folder((run.out / file.name).parent_path());
    write_file(run.out / file.name, file.content);
  }
}

/// The tokenizer of a teacher that is no checkpoint here.
std::shared_ptr<const Tokenizer> tokenizer_beside(const StageRun& run, const char* teacher) {
  const fs::path* given = run.input("tokens");
  check(given, "tokens", "the teacher's tokenizer", "nothing", std::string("a ") + teacher + " has none with it: --tokenizer PATH");
  return load_tokenizer(*given);
}

void capture_from_server(StageRun& run, const CaptureConfig& config) {
  const auto tokenizer = tokenizer_beside(run, "server");
  check(config.codec.kind == "top_k" && config.codec.hidden_layers.empty(), "codec of a server's teacher", "top_k without hidden states",
        config.codec.kind + (config.codec.hidden_layers.empty() ? "" : " with hidden states"),
        "servers name the likeliest ids only: --codec top_k --k N");
  check(config.temperature == 1, "temperature of a server's teacher", "1", str(config.temperature),
        "servers give log-probabilities at temperature 1");
  const ServerTeacher teacher(config.teacher, config.server, tokenizer, config.codec.k, run.seed_of("server"));
  const CapturePlan plan = plan_capture(run, config, *tokenizer, config.data.seq, teacher.fingerprint(), tokenizer->size());
  Json statistics = capture_said([&](const RowSegment& segment) { return teacher.ask(segment); }, plan.rows.train, plan.identity,
                                 config.server.concurrency, config.shard_rows, plan.cache, plan.range);
  run.facts["server"] = teacher.facts();
  finish_capture(run, plan, config, *tokenizer, std::move(statistics));
}

void capture_from_file(StageRun& run, const CaptureConfig& config, const fs::path& file) {
  const auto tokenizer = tokenizer_beside(run, "file of logits");
  check(config.codec.hidden_layers.empty(), "codec.hidden_layers", "none for imported logits", str(config.codec.hidden_layers.size()));
  const CapturePlan plan = plan_capture(run, config, *tokenizer, config.data.seq, "import " + sha256_file(file), tokenizer->size());
  Json statistics = capture_imported(file, plan.rows.train, plan.identity, config.shard_rows, plan.cache, plan.range);
  finish_capture(run, plan, config, *tokenizer, std::move(statistics));
}

void capture_from_parts(StageRun& run, const CaptureConfig& config) {
  std::vector<fs::path> parts;
  for (size_t i = 0; i < config.merge.size(); ++i) parts.push_back(*run.input(str("merge[", i, "]")));
  const fs::path cache = run.work / "cache";
  run.facts["statistics"] = merge_caches(parts, cache);
  place_cache(run, cache, true);
  if (fs::exists(parts[0] / "manifest.json")) {
    const Json facts = read_json(parts[0] / "manifest.json").value("facts", Json::object());
    for (const char* name : {"learned_tokens", "data_sha256", "server"})
      if (facts.contains(name)) run.facts[name] = facts[name];
  }
  for (const auto& entry : fs::directory_iterator(parts[0])) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name == "manifest.json" || name == "capture.json" || name.starts_with("rows-") || name.starts_with(".")) continue;
    write_file(run.out / name, read_file(entry.path()));
  }
}

void capture_from_checkpoint(StageRun& run, const CaptureConfig& config) {
  Checkpoint teacher = load_model(*run.input("teacher"), !run.input("tokens"));
  if (const fs::path* given = run.input("tokens")) {
    const auto tokenizer = load_tokenizer(*given);
    check(!teacher.tokenizer || tokenizer->fingerprint() == teacher.tokenizer->fingerprint(), "tokens", "the teacher's tokenizer", given->string(),
          "its ids would mean other words to the teacher");
    teacher.tokenizer = tokenizer;
  }
  const CapturePlan plan = plan_capture(run, config, *teacher.tokenizer, teacher.spec.context, checkpoint_fingerprint(teacher),
                                        std::min(teacher.spec.vocab, teacher.tokenizer->size()));
  Decoder decoder(teacher.spec, std::move(teacher.weights));
  if (run.device != at::kCPU)
    for (auto& [name, tensor] : decoder.weights()) tensor = tensor.to(run.device);
  Json statistics = capture(decoder, plan.rows.train, plan.identity, config.batch, config.shard_rows, plan.cache, plan.range);
  finish_capture(run, plan, config, *teacher.tokenizer, std::move(statistics));
}

}  // namespace

void run_capture(StageRun& run, const CaptureConfig& config) {
  if (!config.merge.empty()) return capture_from_parts(run, config);
  if (const fs::path* file = run.input("import")) return capture_from_file(run, config, *file);
  if (is_http_address(config.teacher)) return capture_from_server(run, config);
  capture_from_checkpoint(run, config);
}

}  // namespace attar
