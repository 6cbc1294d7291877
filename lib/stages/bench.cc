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
#include "distill/distill_loss.h"
#include "model/generate.h"
#include "spec/model_config.h"
#include "spec/training_cost.h"
#include "teacher/capture.h"

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
  constexpr int64_t kWarmUp = 3;
  std::vector<double> times, processor, loading;
  double last_loss = 0;
  Batch batch;
  if (device.is_cuda()) reset_peak_bytes(device);
  for (int64_t step = 0; step < bench.steps + kWarmUp; ++step) {
    const double begin = now_seconds(), begin_processor = processor_seconds();
    source.next(batch);
    const LogitTargets from_cache = cache ? cache->targets(batch) : LogitTargets{};
    const double loaded = processor_seconds();
    const double tokens = batch.at("labels").ne(-100).sum().item<double>();
    // Labels and what a cache says stay here, as in training.
    at::Tensor& ids = batch.columns.at("ids");
    if (device.is_cuda()) ids = ids.pin_memory().to(device, /*non_blocking=*/true);
    const LogitTargets targets = teacher ? live_targets(*teacher, batch) : from_cache;
    const at::Tensor states = student.hidden({ids, batch.at("segments"), {}, {}});
    at::Tensor hidden = states.reshape({-1, states.size(-1)});
    if (brain) hidden = hidden.to(at::kBFloat16);
    const DistillLoss loss = distill_loss(hidden, student.output_weight(), targets, batch.at("labels").reshape({-1}), {}, loss_weights,
                                          student.spec().logit_softcap, vocab);
    (loss.sum / tokens).backward();
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> gradients;
    for (at::Tensor& weight : weights) gradients.push_back(weight.grad());
    at::_foreach_add_(steps, 1);
    at::_fused_adamw_(weights, gradients, first, second, {}, steps, 1e-4, 0.9, 0.95, 0.1, 1e-8, false, false);
    for (at::Tensor& weight : weights) weight.mutable_grad() = at::Tensor();
    last_loss = loss.sum.item<double>() / tokens;  // a step ends when the device is done
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
                 {"parameters", parameter_count(student.spec())}, {"threads", thread_count()}, {"device", device.str()}};
  if (device.is_cuda()) result["peak_device_bytes"] = peak_device;
  return result;
}

Json bench_generate(const Decoder& model, int64_t prompt_tokens, int64_t max_tokens, int64_t repeats) {
  check(prompt_tokens > 0 && max_tokens > 1 && repeats > 0, "bench generate", "prompt-tokens and repeats above 0, max-tokens above 1");
  check(prompt_tokens + max_tokens <= model.spec().context, "bench generate", str("at most ", model.spec().context, " tokens in all"),
        str(prompt_tokens + max_tokens));
  Rng rng(0, stream_of("bench"));
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < prompt_tokens; ++i) prompt.push_back(static_cast<int32_t>(rng.below(model.spec().vocab)));
  std::vector<double> first, rate;
  for (int64_t repeat = 0; repeat < repeats + 1; ++repeat) {
    const double begin = now_seconds();
    double first_at = 0, last_at = 0;
    GenerateOptions options;
    options.max_tokens = max_tokens;
    generate(model, prompt, options, [&](int32_t) {
      last_at = now_seconds();
      if (first_at == 0) first_at = last_at;
      return true;
    });
    if (repeat == 0) continue;  // warm-up
    first.push_back(first_at - begin);
    rate.push_back(static_cast<double>(max_tokens - 1) / std::max(last_at - first_at, 1e-9));
  }
  const double ttft = median_of(first);
  return {{"time_to_first_token_s", ttft}, {"prompt_tokens_per_s", static_cast<double>(prompt_tokens) / ttft}, {"tokens_per_s", median_of(rate)},
          {"peak_rss_bytes", peak_rss_bytes()}, {"prompt_tokens", prompt_tokens}, {"new_tokens", max_tokens}, {"threads", thread_count()}};
}

}  // namespace attar
