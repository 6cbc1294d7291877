#include "stages/token_route.h"

#include "base/check.h"
#include "data/task.h"
#include "stages/stage.h"

namespace attar {
namespace {

/// The capture's own view of its data: configuration and seed of its manifest, with what the caller names on top.
PreparedRows captured_rows(const TokenRouteRequest& request, const Tokenizer& tokenizer, int64_t context) {
  StageRun run;
  run.id = run.label = "route tokens";
  run.base = fs::current_path();
  CaptureConfig capture;
  if (fs::exists(request.cache / "manifest.json")) {
    const Manifest manifest = read_manifest(request.cache);
    run.seed = manifest.seed;
    if (manifest.configuration.is_object() && manifest.configuration.contains("data"))
      capture.data = read_fields<DataConfig>(from_json(manifest.configuration["data"]), (request.cache / "manifest.json").string() + ": data");
  }
  const auto place = [&](const std::string& key, const std::string& written) {
    if (written.empty()) return;
    const fs::path path = expand_environment(written);
    check(fs::exists(path), key + " of the capture", "to lie here", path.string(), "name the data: --data FILE, or --task FILE");
    run.inputs[key] = path;
  };
  if (!request.task.empty()) {
    run.task = load_task(request.task);
    capture.data.path.clear();
  } else if (!request.data.empty()) {
    capture.data.path = request.data.string();
    capture.data.mix.clear();
  }
  check(run.task || !capture.data.path.empty() || !capture.data.mix.empty(), "data", "what the cache was captured over", "nothing",
        "name it: --data FILE, or --task FILE");
  place("data.path", capture.data.path);
  for (size_t i = 0; i < capture.data.mix.size(); ++i) place(str("data.mix[", i, "].path"), capture.data.mix[i].path);
  return prepare_rows(run, capture.data, tokenizer, context);
}

}  // namespace

TokenRouting route_tokens(const TokenRouteRequest& request) {
  check(is_cache(request.cache), request.cache.string(), "a cache of a teacher's logits", "something else", "make one: attar capture");
  const CacheReader cache(request.cache);
  Checkpoint model = load_model(request.model, true);
  const PreparedRows rows = captured_rows(request, *model.tokenizer, model.spec.context);
  CacheIdentity wanted = cache.identity();
  wanted.tokenizer = model.tokenizer->fingerprint();
  wanted.data = rows.train.data_hash;
  wanted.rows = rows.train.fingerprint;
  cache.check_identity(wanted);
  Decoder student(model.spec, std::move(model.weights));
  if (request.device != at::kCPU)
    for (auto& [name, tensor] : student.weights()) tensor = tensor.to(request.device);
  return token_routing(student, cache, rows.train, request.options);
}

}  // namespace attar
