#include "eval/latency.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/check.h"
#include "device/device.h"
#include "device/threads.h"
#include "eval/tiny_decoder.h"

namespace attar {
namespace {

RunningConfig quick_grid() {
  RunningConfig running;
  running.prompt_tokens = {4, 8}, running.new_tokens = {2, 3}, running.runs = 3, running.warm_up = 1;
  return running;
}

/// The same forward pass, whatever happened between.
at::Tensor some_logits(const Decoder& model) {
  const at::NoGradGuard no_grad;
  return model.logits(model.hidden({at::arange(0, 60, at::kLong).reshape({1, 60}), {}, {}, {}}));
}

TEST(LatencyGrid, EveryPointHasItsNameAndTheFirstStandsForTheModel) {
  const LatencyGrid grid = measure_grid(tiny_decoder(), quick_grid());
  const std::string threads = std::to_string(thread_count());
  const Json json = grid.to_json();
  ASSERT_EQ(json["grid"].size(), 4u);
  for (const std::string prompt : {"4", "8"})
    for (const std::string fresh : {"2", "3"}) {
      const Json& point = json["grid"]["p" + prompt + "_n" + fresh + "_t" + threads];
      EXPECT_EQ(str(point["prompt_tokens"]), prompt);
      EXPECT_EQ(str(point["new_tokens"]), fresh);
      EXPECT_EQ(str(point["threads"]), threads);
      EXPECT_EQ(point["runs"], 3);
      EXPECT_EQ(point["warm_up"], 1);
      for (const char* key : {"ttft_s", "time_per_token_s", "tokens_per_s", "prompt_tokens_per_s"}) {
        const Json& spread = point[key];
        EXPECT_GT(spread["p10"].get<double>(), 0) << key;
        EXPECT_LE(spread["p10"].get<double>(), spread["value"].get<double>()) << key;
        EXPECT_LE(spread["value"].get<double>(), spread["p90"].get<double>()) << key;
        EXPECT_LE(spread["p90"].get<double>(), spread["p99"].get<double>()) << key;
      }
      const double reading = point["prompt_tokens_per_s"]["value"].get<double>();
      EXPECT_NEAR(reading * point["ttft_s"]["value"].get<double>(), point["prompt_tokens"].get<double>(), 1e-6);
    }
  const Json& first = json["grid"]["p4_n2_t" + threads];
  for (const auto& [key, value] : first.items()) EXPECT_EQ(json[key], value) << key;
  EXPECT_FALSE(json.contains("left_out"));
  EXPECT_EQ(grid.points.front().token_s.size(), 3u);  // one a run after the first
  EXPECT_EQ(grid.points[1].token_s.size(), 6u);
}

TEST(LatencyGrid, LeavesOutWhatTheContextOrTheMachineDoesNotHold) {
  const auto cores = static_cast<int64_t>(allowed_cores().size());
  RunningConfig running = quick_grid();
  running.prompt_tokens = {1000, 8, 8}, running.new_tokens = {2}, running.threads = {1, cores + 1};
  const LatencyGrid grid = measure_grid(tiny_decoder(1, 64), running);
  ASSERT_EQ(grid.points.size(), 1u);
  EXPECT_EQ(grid.points[0].name(), "p8_n2_t1");
  const std::string too_many = "_t" + std::to_string(cores + 1) + ": ";
  EXPECT_EQ(grid.left_out, (std::vector<std::string>{"p1000_n2_t1: the context holds 64 tokens",
                                                     "p1000_n2" + too_many + "the context holds 64 tokens",
                                                     "p8_n2" + too_many + str(cores, cores == 1 ? " core" : " cores") + " may be used"}));
  running.prompt_tokens = {1000}, running.threads = {};
  const LatencyGrid cut = measure_grid(tiny_decoder(1, 64), running);
  ASSERT_EQ(cut.points.size(), 1u);
  EXPECT_EQ(cut.points[0].options.prompt_tokens, 62);
  EXPECT_EQ(cut.to_json()["left_out"].size(), 1u);
}

TEST(LatencyGrid, AnotherNumberOfThreadsLeavesTheProcessAsItWas) {
  const Decoder model = tiny_decoder();
  const at::Tensor before = some_logits(model);
  const int64_t threads = thread_count();
  const std::vector<int> cores = allowed_cores("/nowhere");
  RunningConfig running = quick_grid();
  running.threads = {1};
  if (cores.size() > 1) running.threads.push_back(2);
  const LatencyGrid grid = measure_grid(model, running);
  EXPECT_EQ(grid.points.size(), 4 * running.threads.size());
  for (const LatencyResult& point : grid.points) EXPECT_TRUE(point.options.pinned) << point.not_pinned;
  EXPECT_EQ(thread_count(), threads);
  std::vector<int> after = allowed_cores("/nowhere"), sorted = cores;
  std::sort(after.begin(), after.end()), std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(after, sorted);
  EXPECT_TRUE(at::equal(some_logits(model), before));
  running.pinned = false;
  const Json loose = measure_grid(model, running).to_json();
  EXPECT_EQ(loose["pinned"], false);
  EXPECT_FALSE(loose.contains("not_pinned"));
}

TEST(LatencyGrid, ListsWithoutSenseAreRefusedByName) {
  const auto refused = [](const auto& change) {
    RunningConfig running;
    change(running);
    try {
      check_running(running);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refused([](RunningConfig&) {}), "");
  EXPECT_EQ(refused([](RunningConfig& r) { r.new_tokens = {16, 1}; }), "running.new_tokens, expected numbers from 2, received 1");
  EXPECT_EQ(refused([](RunningConfig& r) { r.prompt_tokens = {}; }), "running.prompt_tokens, expected a number or several, received none");
  EXPECT_EQ(refused([](RunningConfig& r) { r.threads = {0}; }), "running.threads, expected numbers from 1, received 0");
  EXPECT_EQ(refused([](RunningConfig& r) { r.runs = 0; }), "running.runs, expected numbers from 1, received 0");
  EXPECT_EQ(refused([](RunningConfig& r) { r.prompt_tokens = {INT64_MAX}; }),
            "running.prompt_tokens, expected at most 1000000000, received 9223372036854775807");
  EXPECT_EQ(refused([](RunningConfig& r) { r.warm_up = -1; }), "running.warm_up, expected numbers from 0, received -1");
}

}  // namespace
}  // namespace attar
