#pragma once
#include <optional>

#include "spec/output_stage_configs.h"
#include "stages/stage.h"

namespace attar {

/// Real distillation steps on random ids: what a run will cost, before it is paid for.
struct BenchTrain {
  fs::path student;                 ///< model folder, or configs/models/*.yaml with `vocab`
  std::optional<fs::path> teacher, cache;
  int64_t batch = 16, seq = 256, steps = 20, vocab = 4096;
  uint64_t seed = 0;
  bool deterministic = false;       ///< as train.deterministic; on a GPU it costs time
  bool cuda_graph = false;          ///< forward and backward pass recorded and replayed, as train.cuda_graph: on
  at::Device device = at::kCPU;
};
/// tokens_per_s, step_s (median after warm-up), the same as processor time of all threads for the step and for reading its batch and cache,
/// peak_rss_bytes, loss, mfu and what it is a share of; on a GPU also peak_device_bytes.
Json bench_train(const BenchTrain& bench);

/// Time to first token, tokens/s of reading and writing, memory; medians over the runs. Of several points those numbers are the first one's, `grid`
/// has every point's and `left_out` those that the model's context or the machine does not hold (eval/latency.h). Error if the context holds none.
Json bench_generate(const Decoder& model, const RunningConfig& running);

}  // namespace attar
