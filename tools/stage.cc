// capture, distill, synthesize, prune, calibrate, quantize, export: one stage by itself.
#include "engine_tools.h"
#include "base/files.h"
#include "device/device.h"
#include "stages/run.h"

namespace attar {

int tool_stage(const std::string& kind, const Words& words) {
  const Command* command = nullptr;
  for (const Command& c : commands())
    if (c.name == kind) command = &c;
  LoneStage lone;
  lone.kind = kind;
  lone.configuration = stage_configuration(*command, words);
  if (words.has("task")) lone.task = words.get("task");
  lone.out = words.get("out");
  lone.seed = static_cast<uint64_t>(words.integer("seed"));
  lone.device = parse_device(words.get("device"));
  run_lone_stage(lone);
  return 0;
}

}  // namespace attar
