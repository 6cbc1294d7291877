#pragma once
#include "command.h"

namespace attar {

// One file per tool; each is options, one library call, its result in words or JSON.
int tool_run(const Words& words);
int tool_doctor(const Words& words);
int tool_stage(const std::string& kind, const Words& words);  ///< capture, distill, prune, quantize, export
int tool_eval(const Words& words);
int tool_logits(const Words& words);
int tool_generate(const Words& words);
int tool_bench_generate(const Words& words);
int tool_bench_train(const Words& words);
int tool_verify_against(const Words& words);

}  // namespace attar
