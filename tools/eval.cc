// attar eval: perplexity, KL, agreement and a task's metrics of one model.
#include <iostream>

#include "engine_tools.h"
#include "base/check.h"
#include "report/terminal.h"
#include "stages/evaluate.h"

namespace attar {

int tool_eval(const Words& words) {
  EvaluationInputs inputs;
  if (words.has("task")) inputs.task = load_task(words.get("task"));
  if (words.has("text")) inputs.text = words.get("text");
  if (words.has("base")) inputs.base = words.get("base");
  if (!words.has("task") && !words.has("text")) throw UsageError("attar eval, expected --text or --task, received neither");
  if (inputs.text) check(fs::exists(*inputs.text), "--text", "a file", inputs.text->string());
  inputs.ctx = words.integer("ctx"), inputs.text_tokens = words.integer("text-tokens"), inputs.task_rows = words.integer("task-rows");
  inputs.stride = words.integer("stride"), inputs.kv_cache = words.get("kv-cache"), inputs.latency = words.has("latency");
  inputs.memorization.rows = words.integer("memorization-rows"), inputs.memorization.prefix = words.integer("memorization-prefix");
  inputs.memorization.length = words.integer("memorization-length");
  if (words.has("scores")) inputs.scores = words.get("scores");
  Json result = Evaluation(std::move(inputs)).measure(words.get("model"), words.get("model"));
  if (words.has("json")) {
    std::cout << to_line(result) << "\n";
    return 0;
  }
  std::cout << terminal_summary({{"artifacts", {{words.get("model"), result}}}, {"gates", Json::array()}});
  return 0;
}

}  // namespace attar
