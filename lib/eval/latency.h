#pragma once
#include <vector>

#include "base/json.h"
#include "eval/energy.h"
#include "model/decoder.h"

namespace attar {

struct LatencyOptions {
  int64_t prompt_tokens = 64, new_tokens = 32;
  int64_t runs = 10, warm_up = 2;  ///< measured runs; runs before them that do not count
  uint64_t seed = 0;               ///< of the prompts' random ids
};

/// Greedy generation for one user, timed. Time to first token: from the call to the first new id. Tokens/s: new ids after the first over their time.
struct LatencyResult {
  LatencyOptions options;
  std::vector<double> first_token_s, tokens_per_s;  ///< per run, ascending
  /// {ttft_s: {value (median), p10, p90, p99}, tokens_per_s: likewise, prompt_tokens, new_tokens, runs, warm_up, threads}
  Json to_json() const;
  double joules = 0, seconds = 0;                   ///< of the measured runs together, where the meter could be read
  std::vector<std::string> energy_domains;          ///< whose energy it is; empty: not measured
  std::string energy_source, no_energy;             ///< which counters; what is left out or why there is no number
  /// {value (joules a new token, its part of the prompt included), joules, seconds, watts, tokens, domains, source, left_out}, or "not measured"
  /// and why. GPUs count where the model lies on one.
  Json energy_json() const;
};
/// Prompts are random ids, other ones in every run; options are cut to what the model's context holds.
LatencyResult measure_latency(const Decoder& model, LatencyOptions options = {}, EnergyMeter* energy = nullptr);

}  // namespace attar
