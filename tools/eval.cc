// attar eval: perplexity, KL, agreement and a task's metrics of one model.
#include <iostream>

#include "engine_tools.h"
#include "base/check.h"
#include "report/terminal.h"
#include "stages/evaluate.h"

namespace attar {
namespace {

RuntimeConfig runtime_of(const Words& words) {
  RuntimeConfig out;
  out.url = words.get("runtime"), out.model = words.get("model-name"), out.api = words.get("api"), out.key_env = words.get("api-key-env");
  out.concurrency = words.integer("concurrency"), out.attempts = words.integer("attempts"), out.timeout = words.number("timeout");
  out.of = words.get("model");
  return out;
}

RunningConfig running_of(const Words& words) {
  RunningConfig out;
  out.prompt_tokens = words.integers("prompt-tokens", out.prompt_tokens), out.new_tokens = words.integers("new-tokens", out.new_tokens);
  out.threads = words.integers("at-threads", {}), out.pinned = !words.has("not-pinned");
  out.runs = words.integer("runs"), out.warm_up = words.integer("warm-up"), out.load_runs = words.integer("load-runs");
  return out;
}

/// Lengths and numbers of threads have no use but for it.
bool asks_for_latency(const Words& words) {
  return words.has("latency") || words.has("prompt-tokens") || words.has("new-tokens") || words.has("at-threads");
}

/// A file and the server that runs it stand in two lines.
Json artifacts_shown(const std::string& name, const Json& result) {
  Json out = {{name, result}};
  if (result.contains("runtime") && result["runtime"].contains("tasks")) out["runtime"] = result["runtime"];
  return out;
}

}  // namespace

int tool_eval(const Words& words) {
  EvaluationInputs inputs;
  if (words.has("task")) inputs.task = load_task(words.get("task"));
  if (words.has("text")) inputs.text = words.get("text");
  if (words.has("base")) inputs.base = words.get("base");
  if (!words.has("task") && !words.has("text")) throw UsageError("attar eval, expected --text or --task, received neither");
  if (!words.has("model") && !words.has("runtime")) throw UsageError("attar eval, expected --model or --runtime, received neither");
  if (!words.has("model") && !words.has("task"))
    throw UsageError("attar eval --runtime, expected --task, received none: a server is asked the task's questions");
  if (inputs.text) check(fs::exists(*inputs.text), "--text", "a file", inputs.text->string());
  inputs.ctx = words.integer("ctx"), inputs.text_tokens = words.integer("text-tokens"), inputs.task_rows = words.integer("task-rows");
  inputs.stride = words.integer("stride"), inputs.kv_cache = words.get("kv-cache"), inputs.learned_score = words.get("learned-score");
  inputs.latency = asks_for_latency(words), inputs.running = running_of(words);
  inputs.memorization = {words.integer("memorization-rows"), words.integer("memorization-prefix"), words.integer("memorization-length")};
  if (words.has("scores")) inputs.scores = words.get("scores");
  inputs.shorten = words.get("long-prompts") == "shorten";
  if (!inputs.shorten && words.get("long-prompts") != "refuse")
    throw UsageError("--long-prompts, expected refuse or shorten, received " + words.get("long-prompts"));
  const std::string model = words.get("model"), name = model.empty() ? words.get("runtime") : model;
  Evaluation evaluation(std::move(inputs));
  Json result = model.empty() ? Json::object() : evaluation.measure(model, model);
  if (words.has("runtime")) {
    try {
      const Json asked = evaluation.ask(runtime_of(words), "runtime", words.get("answers"));
      if (model.empty()) result = asked;
      else result["runtime"] = asked;
    } catch (const Error& error) {
      if (model.empty()) throw;
      result["failed"] = error.what();
    }
  }
  if (words.has("json")) std::cout << to_line(result) << "\n";
  else std::cout << terminal_summary({{"artifacts", artifacts_shown(name, result)}, {"gates", Json::array()}});
  // What could be measured is said before what could not.
  if (result.contains("failed")) fail(result["failed"].get<std::string>());
  return 0;
}

}  // namespace attar
