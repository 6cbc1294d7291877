#include "eval/latency.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "base/check.h"
#include "base/rng.h"
#include "base/signals.h"
#include "device/device.h"
#include "device/threads.h"
#include "eval/statistics.h"
#include "model/generate.h"

namespace attar {
namespace {

Json percentiles_json(const std::vector<double>& sorted) {
  return {{"value", percentile(sorted, 0.5)}, {"p10", percentile(sorted, 0.1)}, {"p90", percentile(sorted, 0.9)}, {"p99", percentile(sorted, 0.99)}};
}

/// The same of numbers that know nothing of each other, with the median's interval where there are enough of them.
Json runs_json(const std::vector<double>& sorted) {
  Json out = percentiles_json(sorted);
  if (const auto ends = median_interval(sorted)) out["low"] = ends->first, out["high"] = ends->second;
  return out;
}

/// Lists of lengths and numbers of threads.
void check_numbers(const char* key, const std::vector<int64_t>& numbers, int64_t least) {
  constexpr int64_t kMost = 1'000'000'000;
  for (const int64_t number : numbers)
    check(number >= least && number <= kMost, str("running.", key), number < least ? str("numbers from ", least) : str("at most ", kMost),
          str(number));
}

}  // namespace

Json LatencyResult::to_json() const {
  std::vector<double> reading;
  for (auto time = first_token_s.rbegin(); time != first_token_s.rend(); ++time)
    reading.push_back(static_cast<double>(options.prompt_tokens) / std::max(*time, 1e-9));
  Json out = {{"ttft_s", runs_json(first_token_s)},
              {"time_per_token_s", percentiles_json(token_s)},
              {"tokens_per_s", runs_json(tokens_per_s)},
              {"prompt_tokens_per_s", runs_json(reading)},
              {"prompt_tokens", options.prompt_tokens},
              {"new_tokens", options.new_tokens},
              {"runs", options.runs},
              {"warm_up", options.warm_up},
              {"threads", options.threads},
              {"pinned", options.pinned}};
  if (!not_pinned.empty()) out["not_pinned"] = not_pinned;
  return out;
}

std::string LatencyResult::name() const { return str("p", options.prompt_tokens, "_n", options.new_tokens, "_t", options.threads); }

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
  const auto between = [](Clock::time_point from, Clock::time_point to) { return std::max(1e-9, std::chrono::duration<double>(to - from).count()); };
  const int64_t context = model.spec().context > 0 ? model.spec().context : options.prompt_tokens + options.new_tokens;
  check(context >= 4, "context of the model", "4 tokens or more", str(context));
  options.new_tokens = std::clamp<int64_t>(options.new_tokens, 2, context / 2);
  options.prompt_tokens = std::clamp<int64_t>(options.prompt_tokens, 1, context - options.new_tokens);
  options.runs = std::max<int64_t>(options.runs, 1), options.warm_up = std::max<int64_t>(options.warm_up, 0);
  const ThreadSetting setting(options.threads, options.pinned);
  options.threads = thread_count(), options.pinned = setting.pinned();
  LatencyResult out;
  out.options = options, out.not_pinned = setting.why_not();
  Rng rng(options.seed, stream_of("latency"));
  Clock::time_point measured_from = Clock::now();
  if (energy) energy->count_gpus(model.weights().begin()->second.is_cuda());
  std::vector<Clock::time_point> written;
  for (int64_t run = -options.warm_up; run < options.runs; ++run) {
    if (run == 0) {
      if (energy) energy->start();
      measured_from = Clock::now();
    }
    std::vector<int32_t> prompt(static_cast<size_t>(options.prompt_tokens));
    for (auto& id : prompt) id = static_cast<int32_t>(rng.below(model.spec().vocab));
    GenerateOptions generation;
    generation.max_tokens = options.new_tokens;
    written.clear();
    const auto begin = Clock::now();
    generate(model, prompt, generation, [&](int32_t) {
      written.push_back(Clock::now());
      return true;
    });
    stop_if_asked();
    if (run < 0) continue;
    check(static_cast<int64_t>(written.size()) == options.new_tokens, "new tokens of a timed run", str(options.new_tokens).c_str(),
          str(written.size()));
    out.first_token_s.push_back(between(begin, written.front()));
    out.tokens_per_s.push_back(static_cast<double>(written.size() - 1) / between(written.front(), written.back()));
    for (size_t i = 1; i < written.size(); ++i) out.token_s.push_back(between(written[i - 1], written[i]));
  }
  if (energy) {
    out.seconds = std::chrono::duration<double>(Clock::now() - measured_from).count();
    out.joules = energy->joules(), out.energy_domains = energy->domains(), out.no_energy = energy->reason();
    out.energy_source = energy->source();
  }
  for (std::vector<double>* times : {&out.first_token_s, &out.tokens_per_s, &out.token_s}) std::sort(times->begin(), times->end());
  return out;
}

void check_running(const RunningConfig& running) {
  check(!running.prompt_tokens.empty(), "running.prompt_tokens", "a number or several", "none");
  check(!running.new_tokens.empty(), "running.new_tokens", "a number or several", "none");
  check_numbers("prompt_tokens", running.prompt_tokens, 1);
  check_numbers("new_tokens", running.new_tokens, 2);
  check_numbers("threads", running.threads, 1);
  check_numbers("runs", {running.runs}, 1);
  check_numbers("warm_up", {running.warm_up}, 0);
  check_numbers("load_runs", {running.load_runs}, 0);
}

Json LatencyGrid::to_json() const {
  Json out = points.front().to_json();
  for (const LatencyResult& point : points) out["grid"][point.name()] = point.to_json();
  if (!left_out.empty()) out["left_out"] = left_out;
  return out;
}

LatencyGrid measure_grid(const Decoder& model, const RunningConfig& running, EnergyMeter* energy) {
  check_running(running);
  const int64_t context = model.spec().context, cores = static_cast<int64_t>(allowed_cores().size());
  LatencyGrid out;
  std::set<std::string> seen;
  const auto measure = [&](const LatencyOptions& options) {
    out.points.push_back(measure_latency(model, options, out.points.empty() ? energy : nullptr));
  };
  LatencyResult wanted;
  LatencyOptions& options = wanted.options;
  options.runs = running.runs, options.warm_up = running.warm_up, options.pinned = running.pinned;
  for (const int64_t threads : running.threads.empty() ? std::vector{thread_count()} : running.threads)
    for (const int64_t prompt : running.prompt_tokens)
      for (const int64_t fresh : running.new_tokens) {
        options.prompt_tokens = prompt, options.new_tokens = fresh, options.threads = threads;
        if (!seen.insert(wanted.name()).second) continue;
        if (context > 0 && prompt + fresh > context) out.left_out.push_back(str(wanted.name(), ": the context holds ", context, " tokens"));
        else if (!running.threads.empty() && cores > 0 && threads > cores)
          out.left_out.push_back(str(wanted.name(), ": ", cores, cores == 1 ? " core" : " cores", " may be used"));
        else measure(options);
      }
  if (out.points.empty()) {
    options.prompt_tokens = running.prompt_tokens.front(), options.new_tokens = running.new_tokens.front();
    options.threads = running.threads.empty() ? 0 : std::min(running.threads.front(), std::max<int64_t>(cores, 1));
    measure(options);
  }
  return out;
}

}  // namespace attar
