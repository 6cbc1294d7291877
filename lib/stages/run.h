#pragma once
#include "stages/stage.h"

namespace attar {

struct RunOptions {
  fs::path out;                   ///< empty: runs/<name>
  at::Device device = at::kCPU;
};

/// What a run came to: gates of the report's verdict, and whether anything had to be done.
struct RunOutcome {
  bool gates_passed = true;
  int64_t ran = 0, skipped = 0;
  fs::path folder, report;        ///< report: folder of report.html, empty if the recipe has no evaluate stage
};

/// Runs every stage that is not done, in order, each whole or absent; what was done with the same key is skipped.
RunOutcome run_recipe(const Recipe& recipe, const RunOptions& options);

/// Runs one stage by itself into `out` (the tools capture, distill, prune, quantize, export). `configuration`: keys of the stage; references are
/// paths.
struct LoneStage {
  std::string kind;
  Json configuration;
  std::optional<fs::path> task;
  fs::path out;
  uint64_t seed = 0;
  at::Device device = at::kCPU;
};
void run_lone_stage(const LoneStage& lone);

/// Versions for manifests and reports: attar, LibTorch, compiler.
Json code_versions();

}  // namespace attar
