// Every tool that computes with LibTorch, in one program. People call it through attar.
#include "base/signals.h"
#include "device/device.h"
#include "engine_tools.h"

int main(int argc, char** argv) {
  using namespace attar;
  std::map<std::string, Tool> tools = {
      {"run", tool_run},
      {"doctor", tool_doctor},
      {"data dedup", tool_data_dedup},
      {"data split", tool_data_split},
      {"data decontaminate", tool_data_decontaminate},
      {"data mix", tool_data_mix},
      {"data pack", tool_data_pack},
      {"eval", tool_eval},
      {"drift", tool_drift},
      {"route tokens", tool_route_tokens},
      {"logits", tool_logits},
      {"generate", tool_generate},
      {"bench generate", tool_bench_generate},
      {"bench train", tool_bench_train},
      {"bench latency", tool_bench_latency},
  };
  for (const char* kind : {"capture", "distill", "synthesize", "prune", "calibrate", "quantize", "export"})
    tools[kind] = [kind](const Words& words) { return tool_stage(kind, words); };
  for (auto& [name, tool] : tools)
    tool = [inner = tool](const Words& words) {
      catch_signals();
      set_up_machine(words.integer("threads"));
      return inner(words);
    };
  return run_tool(tools, argc, argv);
}
