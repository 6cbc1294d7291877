// attar bench: what generation and training cost here.

#include <iostream>

#include "engine_tools.h"
#include "device/device.h"
#include "report/terminal.h"
#include "stages/bench.h"
#include "stages/latency.h"

namespace attar {
namespace {

void show(const Json& result, const Words& words) {
  if (words.has("json")) {
    std::cout << to_line(result) << "\n";
    return;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : result.items()) rows.push_back({key, value.is_string() ? value.get<std::string>() : to_line(value)});
  std::cout << format_table({"what", "value"}, rows);
}

}  // namespace

int tool_bench_generate(const Words& words) {
  LoadOptions options;
  options.tokenizer = false;
  Checkpoint model = load_checkpoint(model_path(words.get("model")), options);
  const Decoder decoder(model.spec, std::move(model.weights));
  show(bench_generate(decoder, words.integer("prompt-tokens"), words.integer("max-tokens"), words.integer("repeats")), words);
  return 0;
}

int tool_bench_train(const Words& words) {
  BenchTrain bench;
  bench.student = words.get("student");
  if (words.has("teacher")) bench.teacher = words.get("teacher");
  if (words.has("cache")) bench.cache = words.get("cache");
  bench.batch = words.integer("batch"), bench.seq = words.integer("seq"), bench.steps = words.integer("steps"), bench.vocab = words.integer("vocab");
  bench.seed = static_cast<uint64_t>(words.integer("seed"));
  bench.device = parse_device(words.get("device"));
  show(bench_train(bench), words);
  return 0;
}

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
  show(result, words);
  return 0;
}

}  // namespace attar
