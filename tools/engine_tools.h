#pragma once
#include "command.h"

namespace attar {

// One file per tool; each is options, one library call, its result in words or JSON.
int tool_run(const Words& words);
int tool_doctor(const Words& words);
int tool_stage(const std::string& kind, const Words& words);  ///< a stage by itself: capture, distill, ...
int tool_data_dedup(const Words& words);
int tool_data_split(const Words& words);
int tool_data_decontaminate(const Words& words);
int tool_data_mix(const Words& words);
int tool_data_pack(const Words& words);
int tool_eval(const Words& words);
int tool_drift(const Words& words);
int tool_route_tokens(const Words& words);
int tool_logits(const Words& words);
int tool_generate(const Words& words);
int tool_bench_generate(const Words& words);
int tool_bench_train(const Words& words);
int tool_bench_latency(const Words& words);

/// What was measured, as JSON or as tables: `result` key by key, the points of its `grid` apart.
void show_measured(const Json& result, const Words& words);

}  // namespace attar
