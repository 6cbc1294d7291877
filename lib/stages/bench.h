#pragma once
#include <optional>

#include "stages/stage.h"

namespace attar {

/// Real distillation steps on random ids: what a run will cost, before it is paid for.
struct BenchTrain {
  fs::path student;                 ///< model folder, or configs/models/*.yaml with `vocab`
  std::optional<fs::path> teacher, cache;
  int64_t batch = 16, seq = 256, steps = 20, vocab = 4096;
  uint64_t seed = 0;
  at::Device device = at::kCPU;
};
/// tokens_per_s, step_s (median after warm-up), the same as processor time of all threads for the step and for reading its batch and cache,
/// peak_rss_bytes, loss, mfu and what it is a share of; on a GPU also peak_device_bytes.
Json bench_train(const BenchTrain& bench);

/// Time to first token, tokens/s of reading and writing, memory; medians over `repeats`.
Json bench_generate(const Decoder& model, int64_t prompt_tokens, int64_t max_tokens, int64_t repeats);

}  // namespace attar
