// attar bench generate, train: what they cost here.
#include <iostream>

#include "base/check.h"
#include "engine_tools.h"
#include "device/device.h"
#include "report/terminal.h"
#include "stages/bench.h"

namespace attar {

void show_measured(const Json& result, const Words& words) {
  if (words.has("json")) {
    std::cout << to_line(result) << "\n";
    return;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : result.items())
    if (key != "grid") rows.push_back({key, value.is_string() ? value.get<std::string>() : to_line(value)});
  std::cout << format_table({"what", "value"}, rows);
  if (!result.contains("grid")) return;
  rows.clear();
  const auto shown = [](const Json& spread, double scale) { return str(scale * spread["value"].get<double>()); };
  for (const auto& [name, point] : result["grid"].items())
    rows.push_back({name, shown(point["ttft_s"], 1e3), str(1e3 * point["ttft_s"]["p99"].get<double>()), shown(point["time_per_token_s"], 1e3),
                    shown(point["tokens_per_s"], 1), shown(point["prompt_tokens_per_s"], 1)});
  std::cout << "\n" << format_table({"point", "first token, ms", "99% below, ms", "next token, ms", "tokens/s", "tokens read/s"}, rows);
}

int tool_bench_generate(const Words& words) {
  LoadOptions options;
  options.tokenizer = false;
  Checkpoint model = load_checkpoint(model_path(words.get("model")), options);
  const Decoder decoder(model.spec, std::move(model.weights));
  RunningConfig running;
  running.prompt_tokens = words.integers("prompt-tokens", {64}), running.new_tokens = words.integers("max-tokens", {64});
  running.threads = words.integers("at-threads", {});
  running.runs = words.integer("repeats"), running.warm_up = words.integer("warm-up"), running.pinned = words.has("pinned");
  show_measured(bench_generate(decoder, running), words);
  return 0;
}

int tool_bench_train(const Words& words) {
  BenchTrain bench;
  bench.student = words.get("student");
  if (words.has("teacher")) bench.teacher = words.get("teacher");
  if (words.has("cache")) bench.cache = words.get("cache");
  bench.batch = words.integer("batch"), bench.seq = words.integer("seq"), bench.steps = words.integer("steps"), bench.vocab = words.integer("vocab");
  bench.seed = static_cast<uint64_t>(words.integer("seed"));
  bench.deterministic = words.has("deterministic"), bench.cuda_graph = words.has("cuda-graph");
  bench.device = parse_device(words.get("device"));
  show_measured(bench_train(bench), words);
  return 0;
}

}  // namespace attar
