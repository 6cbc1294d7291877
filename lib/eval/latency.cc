#include "eval/latency.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/rng.h"
#include "base/signals.h"
#include "device/device.h"
#include "eval/statistics.h"
#include "model/generate.h"

namespace attar {

Json LatencyResult::to_json() const {
  const auto summary = [](const std::vector<double>& sorted) {
    return Json{{"value", percentile(sorted, 0.5)}, {"p10", percentile(sorted, 0.1)}, {"p90", percentile(sorted, 0.9)},
                {"p99", percentile(sorted, 0.99)}};
  };
  return Json{{"ttft_s", summary(first_token_s)},
              {"tokens_per_s", summary(tokens_per_s)},
              {"prompt_tokens", options.prompt_tokens},
              {"new_tokens", options.new_tokens},
              {"runs", options.runs},
              {"warm_up", options.warm_up},
              {"threads", thread_count()}};
}

Json LatencyResult::energy_json() const {
  if (energy_domains.empty()) return no_energy.empty() ? "not measured" : "not measured: " + no_energy;
  const auto tokens = static_cast<int64_t>(tokens_per_s.size()) * options.new_tokens;
  return Json{{"value", joules / static_cast<double>(std::max<int64_t>(tokens, 1))}, {"joules", joules}, {"seconds", seconds},
              {"watts", joules / std::max(seconds, 1e-9)}, {"tokens", tokens}, {"domains", energy_domains}, {"source", energy_source},
              {"left_out", no_energy.empty() ? Json() : Json(no_energy)}};
}

LatencyResult measure_latency(const Decoder& model, LatencyOptions options, EnergyMeter* energy) {
  using Clock = std::chrono::steady_clock;
  const at::NoGradGuard no_grad;
  const int64_t context = model.spec().context > 0 ? model.spec().context : options.prompt_tokens + options.new_tokens;
  check(context >= 4, "context of the model", "4 tokens or more", str(context));
  options.new_tokens = std::clamp<int64_t>(options.new_tokens, 2, context / 2);
  options.prompt_tokens = std::clamp<int64_t>(options.prompt_tokens, 1, context - options.new_tokens);
  options.runs = std::max<int64_t>(options.runs, 1);
  LatencyResult out;
  out.options = options;
  Rng rng(options.seed, stream_of("latency"));
  Clock::time_point measured_from = Clock::now();
  if (energy) energy->count_gpus(model.weights().begin()->second.is_cuda());
  for (int64_t run = -options.warm_up; run < options.runs; ++run) {
    if (run == 0) {
      if (energy) energy->start();
      measured_from = Clock::now();
    }
    std::vector<int32_t> prompt(static_cast<size_t>(options.prompt_tokens));
    for (auto& id : prompt) id = static_cast<int32_t>(rng.below(model.spec().vocab));
    GenerateOptions generation;
    generation.max_tokens = options.new_tokens;
    Clock::time_point first;
    int64_t count = 0;
    const auto begin = Clock::now();
    generate(model, prompt, generation, [&](int32_t) {
      if (++count == 1) first = Clock::now();
      return true;
    });
    const auto end = Clock::now();
    stop_if_asked();
    if (run < 0) continue;
    check(count == options.new_tokens, "new tokens of a timed run", str(options.new_tokens).c_str(), str(count));
    out.first_token_s.push_back(std::chrono::duration<double>(first - begin).count());
    out.tokens_per_s.push_back(static_cast<double>(count - 1) / std::max(1e-9, std::chrono::duration<double>(end - first).count()));
  }
  if (energy) {
    out.seconds = std::chrono::duration<double>(Clock::now() - measured_from).count();
    out.joules = energy->joules(), out.energy_domains = energy->domains(), out.no_energy = energy->reason();
    out.energy_source = energy->source();
  }
  std::sort(out.first_token_s.begin(), out.first_token_s.end());
  std::sort(out.tokens_per_s.begin(), out.tokens_per_s.end());
  return out;
}

}  // namespace attar
