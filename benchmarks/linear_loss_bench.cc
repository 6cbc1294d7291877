// The fused linear loss beside the matrix products that it cannot do without, in one run.
//   linear_loss_bench [--benchmark_filter=...]
// Counter `ratio`: time of the fused operation over that of its products by LibTorch's mm, median of interleaved pairs; `ratio_own`: by our own
// matmul_into, which is quicker on some processors. `extra_mib`: memory a call takes beyond its inputs, gradients counted, after one call as large;
// `first_mib`: the same of the process's first large call, with what the libraries then keep for good.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "device/device.h"
#include "kernels/linear_loss.h"
#include "kernels/matmul.h"

namespace attar {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct LossShape {
  at::Tensor hidden, weight, labels;
  LogitTargets targets;
  LossWeights weights;
};

LossShape shape_of_case(int64_t rows, int64_t hidden, int64_t teacher_hidden, int64_t vocab, bool live) {
  at::manual_seed(1);
  LossShape shape;
  shape.hidden = at::randn({rows, hidden});
  shape.weight = at::randn({vocab, hidden}) * 0.05;
  shape.labels = at::randint(vocab, {rows}, at::kLong);
  shape.weights.kl = 1;
  if (live) {
    shape.targets.kind = LogitTargets::Kind::live;
    shape.targets.hidden = at::randn({rows, teacher_hidden});
    shape.targets.weight = at::randn({vocab, teacher_hidden}) * 0.05;
  } else {
    shape.targets.kind = LogitTargets::Kind::sparse;
    shape.targets.ids = std::get<1>(at::rand({rows, vocab}).topk(12, 1)).to(at::kInt);
    shape.targets.probs = at::full({rows, 12}, 1.0f / 12);
  }
  return shape;
}

void products(const LossShape& shape) {
  const at::Tensor z = shape.hidden.mm(shape.weight.t());
  if (shape.targets.kind == LogitTargets::Kind::live) benchmark::DoNotOptimize(shape.targets.hidden.mm(shape.targets.weight.t()).data_ptr());
  benchmark::DoNotOptimize(z.mm(shape.weight).data_ptr());
  benchmark::DoNotOptimize(z.t().mm(shape.hidden).data_ptr());
}

at::Tensor own_product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  matmul_into(out, a, b);
  return out;
}

void own_products(const LossShape& shape) {
  const at::Tensor z = own_product(shape.hidden, shape.weight.t());
  if (shape.targets.kind == LogitTargets::Kind::live)
    benchmark::DoNotOptimize(own_product(shape.targets.hidden, shape.targets.weight.t()).data_ptr());
  benchmark::DoNotOptimize(own_product(z, shape.weight).data_ptr());
  benchmark::DoNotOptimize(own_product(z.t(), shape.hidden).data_ptr());
}

/// args: rows, D, Dt, V, live (1) or sampled with 12 ids (0)
void linear_loss_pairs(benchmark::State& state) {
  set_up_machine(0);
  const LossShape shape = shape_of_case(state.range(0), state.range(1), state.range(2), state.range(3), state.range(4) != 0);
  const auto fused = [&] {
    const LinearLossResult result = linear_loss(shape.hidden, shape.weight, shape.targets, shape.labels, {}, shape.weights, 0, state.range(3), true);
    benchmark::DoNotOptimize(result.loss.data_ptr());
  };
  {  // the program's own pages are no part of what the operation takes
    const LossShape small = shape_of_case(64, state.range(1), state.range(2), 1024, state.range(4) != 0);
    linear_loss(small.hidden, small.weight, small.targets, small.labels, {}, small.weights, 0, 1024, true);
  }
  for (const char* counter : {"first_mib", "extra_mib"}) {
    malloc_trim(0);  // what was there before would hide what the operation takes
    reset_peak_rss();
    const int64_t before = current_rss_bytes();
    fused();
    state.counters[counter] = static_cast<double>(peak_rss_bytes() - before) / (1 << 20);
  }
  products(shape);
  own_products(shape);
  std::vector<double> ratios, own_ratios, times;
  for (auto _ : state) {
    const double with = seconds_of(fused), without = seconds_of([&] { products(shape); });
    ratios.push_back(with / without);
    own_ratios.push_back(with / seconds_of([&] { own_products(shape); }));
    times.push_back(with);
  }
  std::sort(ratios.begin(), ratios.end());
  std::sort(own_ratios.begin(), own_ratios.end());
  state.counters["ratio_own"] = own_ratios[own_ratios.size() / 2];
  std::sort(times.begin(), times.end());
  state.counters["ratio"] = ratios[ratios.size() / 2];
  state.counters["fused_ms"] = times[times.size() / 2] * 1e3;
}
BENCHMARK(linear_loss_pairs)
    ->Args({2048, 512, 512, 32768, 1})
    ->Args({2048, 512, 512, 32768, 0})
    ->Args({4096, 256, 384, 4096, 1})
    ->Args({4096, 256, 384, 4096, 0})
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace attar
