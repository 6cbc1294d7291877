// attar bench latency: the table that a search under milliseconds reads.
#include "base/check.h"
#include "engine_tools.h"
#include "stages/latency.h"

namespace attar {

int tool_bench_latency(const Words& words) {
  constexpr int64_t kTokens = 101;
  const LatencyTable table = measure_latency();
  const fs::path file = words.has("out") ? fs::path(words.get("out")) : own_latency_file();
  if (!file.parent_path().empty()) make_folder(file.parent_path());
  write_latency_table(table, file);
  Json result = {{"file", file.string()}, {"machine", table.machine}, {"layer_ms", table.layer_ms}, {"token_ms", table.token_ms}};
  for (size_t i = 0; i < table.widths.size(); ++i) {
    const int64_t width = table.widths[i];
    result["linear_ms " + std::to_string(width) + " x " + std::to_string(width)] = table.linear_ms[i * table.widths.size() + i];
  }
  if (words.has("model")) {
    LoadOptions options;
    options.tokenizer = false;
    Checkpoint model = load_checkpoint(model_path(words.get("model")), options);
    result["predicted_ms_per_token"] = table.token(model.spec);
    result["measured_ms_per_token"] = measure_token(Decoder(model.spec, std::move(model.weights)), kTokens);
  }
  show_measured(result, words);
  return 0;
}

}  // namespace attar
