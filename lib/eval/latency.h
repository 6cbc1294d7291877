#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/energy.h"
#include "model/decoder.h"
#include "spec/output_stage_configs.h"

namespace attar {

struct LatencyOptions {
  int64_t prompt_tokens = 64, new_tokens = 32;
  int64_t threads = 0;             ///< to compute with; 0: as many as are set
  int64_t runs = 10, warm_up = 2;  ///< measured runs; runs before them that do not count
  bool pinned = false;             ///< each thread on a core of its own meanwhile, where that can be (device/threads.h)
  uint64_t seed = 0;               ///< of the prompts' random ids
};

/// Greedy generation for one user, timed. Time to first token: from the call to the first new id. Tokens/s: new ids after the first over their time.
/// Time per token: from one new id to the next, those of all runs together.
struct LatencyResult {
  LatencyOptions options;                           ///< as it was measured: `threads` is a number, `pinned` whether it was done
  std::string not_pinned;                           ///< why pinning was wanted and not done
  std::vector<double> first_token_s, tokens_per_s;  ///< per run, ascending
  std::vector<double> token_s;                      ///< ascending
  /// ttft_s, time_per_token_s, tokens_per_s and prompt_tokens_per_s (prompt over time to first token), each {value (median), p10, p90, p99},
  /// from 6 runs on also {low, high}, the median's 95% interval (but for time_per_token_s: tokens of one run are no independent numbers);
  /// prompt_tokens, new_tokens, threads, pinned, not_pinned (where it says why), runs, warm_up.
  Json to_json() const;
  std::string name() const;                         ///< p32_n16_t2: lengths of prompt and answer, threads
  double joules = 0, seconds = 0;                   ///< of the measured runs together, where the meter could be read
  std::vector<std::string> energy_domains;          ///< whose energy it is; empty: not measured
  std::string energy_source, no_energy;             ///< which counters; what is left out or why there is no number
  /// {value (joules a new token, its part of the prompt included), joules, seconds, watts, tokens, domains, source, left_out}, or "not measured"
  /// and why. GPUs count where the model lies on one.
  Json energy_json() const;
};
/// Prompts are random ids, other ones in every run; lengths are cut to what the model's context holds.
LatencyResult measure_latency(const Decoder& model, LatencyOptions options = {}, EnergyMeter* energy = nullptr);

/// Several lengths and numbers of threads.
struct LatencyGrid {
  std::vector<LatencyResult> points;    ///< at least one; the first stands for the model
  std::vector<std::string> left_out;    ///< "p4096_n16_t2: the context holds 512 tokens"
  /// The first point's numbers, `grid` with every point's under its name, `left_out` where there is something.
  Json to_json() const;
};
/// Throws Error naming the key if a list of `running` has no or no sensible numbers.
void check_running(const RunningConfig& running);
/// The points of `running` that the model's context holds and that ask for no more threads than cores may be used, by threads, prompt and answer. If
/// none is left, the first one cut to both. `energy`: of the first.
LatencyGrid measure_grid(const Decoder& model, const RunningConfig& running, EnergyMeter* energy = nullptr);

}  // namespace attar
