#include "stages/bench.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "base/check.h"
#include "base/rng.h"
#include "device/device.h"
#include "device/peak_rate.h"
#include "device/same_bytes.h"
#include "distill/distill_loss.h"
#include "eval/latency.h"
#include "spec/model_config.h"
#include "spec/training_cost.h"
#include "stages/fixed_batch.h"
#include "teacher/capture.h"
#include "train/recorded_step.h"

namespace attar {
namespace {

double now_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Processor time of this process, all threads: what a step costs on a machine that others use too.
double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

Decoder bench_model(const fs::path& path, int64_t vocab, uint64_t seed) {
  if (path.extension() == ".yaml" || path.extension() == ".yml")
    return Decoder::random(spec_from_model_config(read_fields<ModelConfig>(read_yaml(path), ""), vocab), seed);
  LoadOptions options;
  options.tokenizer = false;
  Checkpoint model = load_checkpoint(model_path(path), options);
  return Decoder(model.spec, std::move(model.weights));
}

TokenRows random_rows(int64_t rows, int64_t seq, int64_t vocab, uint64_t seed) {
  TokenRows out;
  out.ids = at::empty({rows, seq}, at::kInt);
  Rng rng(seed, stream_of("bench"));
  int32_t* ids = out.ids.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < rows * seq; ++i) ids[i] = static_cast<int32_t>(rng.below(vocab));
  out.learn = at::ones({rows, seq}, at::kByte);
  out.segments = at::zeros({rows, seq}, at::kInt);
  out.lengths = at::full({rows}, seq, at::kInt);
  return out;
}

/// Onto the device, matrices as they are multiplied there.
void place_model(Decoder& model, at::Device device, bool brain_matrices) {
  for (auto& [name, tensor] : model.weights())
    tensor = brain_matrices && tensor.dim() == 2 ? tensor.to(device, at::kBFloat16) : tensor.to(device);
}

}  // namespace

Json bench_train(const BenchTrain& bench) {
  check(bench.batch > 0 && bench.seq > 1 && bench.steps > 0, "bench train", "batch, seq and steps above 0");
  const at::Device device = bench.device;
  promise_same_bytes(bench.deterministic, device);
  const bool brain = device.is_cuda();  // as training does it: train.precision auto
  Decoder student = bench_model(bench.student, bench.vocab, bench.seed);
  std::unique_ptr<Decoder> teacher;
  std::unique_ptr<CacheReader> cache;
  if (bench.teacher) teacher = std::make_unique<Decoder>(bench_model(*bench.teacher, student.spec().vocab, bench.seed + 1));
  if (bench.cache) cache = std::make_unique<CacheReader>(*bench.cache);
  int64_t vocab = student.spec().vocab;
  if (teacher) vocab = std::min(vocab, teacher->spec().vocab);
  if (cache) vocab = std::min(vocab, cache->identity().vocab);
  place_model(student, device, false);
  if (teacher) place_model(*teacher, device, brain), teacher->autocast_bf16 = brain;
  student.autocast_bf16 = brain;
  student.require_grad(true);

  const TokenRows rows = random_rows(bench.batch * 4, bench.seq, vocab, bench.seed);
  RowSource source(rows, bench.batch, bench.seed, false);
  std::vector<at::Tensor> weights, first, second, steps;
  for (auto& [name, tensor] : student.weights()) {
    weights.push_back(tensor);
    first.push_back(at::zeros_like(tensor)), second.push_back(at::zeros_like(tensor));
    steps.push_back(at::zeros({}, at::TensorOptions(at::kFloat).device(device)));
  }
  LossWeights loss_weights;
  (teacher || cache ? loss_weights.kl : loss_weights.ce) = 1;
  std::optional<GraphStream> stream;
  std::optional<RecordedStep> recorded;
  if (bench.cuda_graph) {
    FixedStep fixed;
    std::string why;
    fixed.device = device, fixed.must = true, fixed.make_graph = cuda_graphs(device, &why);
    check(why.empty(), "bench train --cuda-graph", "a GPU whose work can be recorded", why);
    const FixedLoss fixed_loss{&student, teacher.get(), loss_weights, vocab, teacher || cache};
    fixed.fix = [&, fixed_loss](const Batch& given) {
      Batch there = given;
      there.columns.at("ids") = given.at("ids").pin_memory().to(device, /*non_blocking=*/true);
      return fixed_batch(fixed_loss, there, cache ? cache->targets(given) : LogitTargets{}, {}, 1);
    };
    std::vector<TrainParameter> parameters;
    for (auto& [name, tensor] : student.weights()) parameters.push_back({name, tensor});
    stream.emplace(device);
    recorded.emplace(std::move(fixed), std::move(parameters));
  }
  constexpr int64_t kWarmUp = 3;  // a recording is made in the third
  std::vector<double> times, processor, loading;
  double last_loss = 0;
  Batch batch;
  if (device.is_cuda()) reset_peak_bytes(device);
  for (int64_t step = 0; step < bench.steps + kWarmUp; ++step) {
    const double begin = now_seconds(), begin_processor = processor_seconds();
    source.next(batch);
    const LogitTargets from_cache = cache && !recorded ? cache->targets(batch) : LogitTargets{};
    const double loaded = processor_seconds();
    const double tokens = batch.at("labels").ne(-100).sum().item<double>();
    at::Tensor sum;
    if (recorded) {
      recorded->zero();
      sum = recorded->run(batch).sum;
    } else {
      // Labels and what a cache says stay here, as in training.
      at::Tensor& ids = batch.columns.at("ids");
      if (device.is_cuda()) ids = ids.pin_memory().to(device, /*non_blocking=*/true);
      const LogitTargets targets = teacher ? live_targets(*teacher, batch) : from_cache;
      const at::Tensor states = student.hidden({ids, batch.at("segments"), {}, {}});
      sum = states_loss(student, states, targets, batch.at("labels").reshape({-1}), {}, loss_weights, vocab).sum;
      sum.backward();
    }
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> gradients;
    for (at::Tensor& weight : weights) gradients.push_back(weight.grad());
    at::_foreach_div_(gradients, tokens);
    at::_foreach_add_(steps, 1);
    at::_fused_adamw_(weights, gradients, first, second, {}, steps, 1e-4, 0.9, 0.95, 0.1, 1e-8, false, false);
    for (at::Tensor& weight : weights)
      if (!recorded) weight.mutable_grad() = at::Tensor();
    last_loss = sum.item<double>() / tokens;  // a step ends when the device is done
    if (step < kWarmUp) continue;
    times.push_back(now_seconds() - begin);
    processor.push_back(processor_seconds() - begin_processor);
    loading.push_back(loaded - begin_processor);
  }
  const double step_s = median_of(times);
  const int64_t tokens = bench.batch * bench.seq;
  const double flops = training_flops(student.spec(), tokens, bench.seq, {}) + (teacher ? forward_flops(teacher->spec(), tokens, bench.seq) : 0);
  const int64_t peak_device = device.is_cuda() ? peak_bytes(device) : 0;  // before the peak rate's own products
  const PeakRate peak = peak_rate(device, brain);
  Json result = {{"mfu", flops / step_s / peak.flops}, {"mfu_is_a_share_of_flops", peak.flops}, {"mfu_is_a_share_of", peak.from},
                 {"tokens_per_s", static_cast<double>(tokens) / step_s}, {"step_s", step_s}, {"step_processor_s", median_of(processor)},
                 {"loader_processor_s", median_of(loading)}, {"peak_rss_bytes", peak_rss_bytes()}, {"loss", last_loss},
                 {"parameters", parameter_count(student.spec())}, {"threads", thread_count()}, {"device", device.str()},
                 {"deterministic", bench.deterministic}};
  if (recorded) result["replayed_batches"] = recorded->replayed();
  if (device.is_cuda()) result["peak_device_bytes"] = peak_device;
  return result;
}

Json bench_generate(const Decoder& model, const RunningConfig& running) {
  check_running(running);
  const int64_t least = *std::min_element(running.prompt_tokens.begin(), running.prompt_tokens.end()) +
                        *std::min_element(running.new_tokens.begin(), running.new_tokens.end());
  check(least <= model.spec().context, "bench generate", str("at most ", model.spec().context, " tokens in all"), str(least));
  const Json all = measure_grid(model, running).to_json();
  Json out = {{"time_to_first_token_s", all["ttft_s"]["value"]}, {"prompt_tokens_per_s", all["prompt_tokens_per_s"]["value"]},
              {"tokens_per_s", all["tokens_per_s"]["value"]}, {"peak_rss_bytes", peak_rss_bytes()}, {"prompt_tokens", all["prompt_tokens"]},
              {"new_tokens", all["new_tokens"]}, {"threads", all["threads"]}};
  if (all["grid"].size() > 1) out["grid"] = all["grid"];
  if (all.contains("left_out")) out["left_out"] = all["left_out"];
  return out;
}

}  // namespace attar
