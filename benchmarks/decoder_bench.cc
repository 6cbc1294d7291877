// One training step's forward and backward of small decoders, and its parts: fused kernels beside LibTorch's composed operations.
//   decoder_bench --benchmark_filter=step
#include <benchmark/benchmark.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "device/device.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "model/decoder.h"
#include "model/generate.h"
#include "model/layer_ops.h"

namespace {

attar::ModelSpec bench_spec(int64_t width, int64_t ffn, int64_t layers, int64_t heads, int64_t kv_heads, int64_t vocab) {
  attar::ModelSpec spec;
  spec.vocab = vocab;
  spec.hidden = width;
  spec.head_size = width / heads;
  spec.context = 512;
  spec.tied = true;
  for (int64_t i = 0; i < layers; ++i) spec.layers.push_back({ffn, heads, kv_heads, 0, false});
  return spec;
}

/// The teacher (3 million parameters) and the student (0.7 million) of a small recipe.
attar::ModelSpec recipe_spec(int64_t which) { return which == 0 ? bench_spec(256, 704, 4, 4, 2, 1024) : bench_spec(128, 352, 3, 4, 2, 1024); }

at::Tensor bench_ids(int64_t B, int64_t T) { return at::arange(B * T, at::kLong).mul_(7919).remainder_(1024).reshape({B, T}); }

/// args: model, B, T. Hidden states and their backward from a given gradient: what a step costs without its loss and optimizer.
void decoder_step(benchmark::State& state) {
  attar::set_up_machine(0);
  const attar::ModelSpec spec = recipe_spec(state.range(0));
  attar::Decoder model = attar::Decoder::random(spec, 1);
  model.require_grad(true);
  const int64_t B = state.range(1), T = state.range(2);
  const attar::TokenBatch batch{bench_ids(B, T), {}, {}, {}};
  const at::Tensor gradient = at::full({B, T, spec.hidden}, 1e-3);
  for (auto _ : state) {
    for (auto& [name, tensor] : model.weights()) tensor.mutable_grad().reset();
    model.hidden(batch).backward(gradient);
  }
  const double head = 2.0 * static_cast<double>(spec.vocab * spec.hidden * B * T);
  const double flops = 3 * (attar::forward_flops(spec, B * T, T) - head);
  state.counters["gflops"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(B * T), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(decoder_step)->Unit(benchmark::kMillisecond)->UseRealTime()
    ->Args({0, 32, 64})->Args({0, 16, 128})->Args({0, 16, 256})->Args({1, 32, 64})->Args({1, 64, 64});

void decoder_forward(benchmark::State& state) {
  attar::set_up_machine(0);
  const attar::Decoder model = attar::Decoder::random(recipe_spec(state.range(0)), 1);
  const attar::TokenBatch batch{bench_ids(state.range(1), state.range(2)), {}, {}, {}};
  const at::NoGradGuard no_grad;
  for (auto _ : state) benchmark::DoNotOptimize(model.hidden(batch));
}
BENCHMARK(decoder_forward)->Unit(benchmark::kMillisecond)->UseRealTime()->Args({0, 32, 64})->Args({1, 32, 64});

void decoder_greedy(benchmark::State& state) {
  attar::set_up_machine(0);
  const attar::Decoder model = attar::Decoder::random(recipe_spec(state.range(0)), 1);
  attar::GenerateOptions options;
  options.max_tokens = 128;
  for (auto _ : state) benchmark::DoNotOptimize(attar::generate(model, {1}, options));
  state.counters["tokens/s"] = benchmark::Counter(128, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(decoder_greedy)->Unit(benchmark::kMillisecond)->UseRealTime()->Arg(0)->Arg(1);

enum class Part { norm, norm_plain, gate, gate_plain, rotate, rotate_plain, attention };

/// Forward and backward of one part at N = 2048 rows of D = 256, F = 704.
void layer_part(benchmark::State& state, Part part) {
  attar::set_up_machine(0);
  const at::Tensor x = at::randn({32, 64, 256}).requires_grad_(true), w = at::ones({256}).requires_grad_(true);
  const at::Tensor gate = at::randn({32, 64, 704}).requires_grad_(true), up = at::randn({32, 64, 704}).requires_grad_(true);
  const at::Tensor heads = at::randn({32, 64, 4, 64}).requires_grad_(true), angles = at::rand({64, 32});
  const at::Tensor kv = at::randn({32, 64, 2, 64}).requires_grad_(true);
  const at::Tensor dx = at::randn_like(x), dgate = at::randn_like(gate), dheads = at::randn_like(heads);
  for (auto _ : state) {
    for (const at::Tensor& t : {x, w, gate, up, heads, kv}) t.mutable_grad().reset();
    switch (part) {
      case Part::norm: attar::norm_op(x, w, 1e-5, 0).backward(dx); break;
      case Part::norm_plain: attar::rms_norm_plain(x, w, 1e-5, 0).backward(dx); break;
      case Part::gate: attar::gated_op(gate, up, attar::GateActivation::silu).backward(dgate); break;
      case Part::gate_plain: attar::gated_plain(gate, up, attar::GateActivation::silu).backward(dgate); break;
      case Part::rotate: attar::rotary_op(heads, angles.cos(), angles.sin()).backward(dheads); break;
      case Part::rotate_plain: attar::rotate_plain(heads, angles.cos(), angles.sin(), false).backward(dheads); break;
      case Part::attention:
        at::scaled_dot_product_attention(heads.transpose(1, 2), kv.transpose(1, 2), kv.transpose(1, 2), {}, 0.0, true, {}, true)
            .backward(dheads.transpose(1, 2));
        break;
    }
  }
}
BENCHMARK_CAPTURE(layer_part, norm, Part::norm)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(layer_part, norm_plain, Part::norm_plain)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(layer_part, gate, Part::gate)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(layer_part, gate_plain, Part::gate_plain)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(layer_part, rotate, Part::rotate)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(layer_part, rotate_plain, Part::rotate_plain)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(layer_part, attention, Part::attention)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
