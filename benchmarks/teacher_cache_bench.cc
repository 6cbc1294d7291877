// A teacher's cache beside what it serves, in one run, by processor time of all threads (the machine may be shared).
//   teacher_cache_bench [--benchmark_filter=...]
// capture: counter `ratio`, time of a capture over that of the teacher's forward pass alone (hidden states and logits), median of interleaved pairs.
// step: counter `ratio`, time of an online step over that of a step from the cache; `loader_share`, of the cached step; `reading`, tokens read from
// a cold cache (checksum, unpacking, targets) over tokens trained in the same time.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <vector>

#include "base/files.h"
#include "base/log.h"
#include "base/rng.h"
#include "device/device.h"
#include "stages/bench.h"
#include "teacher/capture.h"

namespace attar {
namespace {

constexpr int64_t kBatch = 16, kSeq = 256;
constexpr const char* kTeacher =
    "hidden_size: 384\nintermediate_size: 1024\nnum_hidden_layers: 6\nnum_attention_heads: 6\nnum_key_value_heads: 3\ntie_word_embeddings: false\n";
constexpr const char* kStudent =
    "hidden_size: 256\nintermediate_size: 704\nnum_hidden_layers: 4\nnum_attention_heads: 4\nnum_key_value_heads: 2\ntie_word_embeddings: false\n";

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// A folder of this process that goes away with it.
struct Scratch {
  fs::path path = fs::temp_directory_path() / ("attar_cache_bench_" + std::to_string(getpid()));
  Scratch() { fs::create_directories(path); }
  ~Scratch() {
    std::error_code error;
    fs::remove_all(path, error);
  }
};

/// A teacher of random weights whose distributions are as narrow as a trained one's: about 12 distinct ids of 50 draws.
Decoder narrow_teacher(int64_t vocab, double sharpness) {
  ModelSpec spec;
  spec.vocab = vocab, spec.hidden = 384, spec.head_size = 64, spec.context = 512, spec.tied = false;
  for (int64_t i = 0; i < 6; ++i) spec.layers.push_back({1024, 6, 3, 0, false});
  Decoder teacher = Decoder::random(spec, 1);
  teacher.weights().at("lm_head.weight").mul_(sharpness);
  return teacher;
}

TokenRows bench_rows(int64_t count, int64_t vocab) {
  TokenRows rows;
  rows.ids = at::empty({count, kSeq}, at::kInt);
  Rng rng(3, stream_of("bench"));
  for (int64_t i = 0; i < count * kSeq; ++i) rows.ids.data_ptr<int32_t>()[i] = static_cast<int32_t>(rng.below(vocab));
  rows.learn = at::ones({count, kSeq}, at::kByte);
  rows.segments = at::zeros({count, kSeq}, at::kInt);
  rows.lengths = at::full({count}, kSeq, at::kInt);
  return rows;
}

CacheIdentity bench_identity(int64_t vocab) {
  CacheIdentity identity;
  identity.teacher = identity.tokenizer = identity.data = identity.rows = "bench";
  identity.vocab = vocab;
  identity.codec.kind = "sampled";
  return identity;
}

/// args: vocabulary, rows
void capture_cost(benchmark::State& state) {
  set_up_machine(0);
  set_log_level("error");
  const int64_t vocab = state.range(0), count = state.range(1);
  const Decoder teacher = narrow_teacher(vocab, 14);
  const TokenRows rows = bench_rows(count, vocab);
  const Scratch scratch;
  Json facts;
  const auto with = [&] {
    fs::remove_all(scratch.path / "cache");
    const double begin = processor_seconds();
    facts = capture(teacher, rows, bench_identity(vocab), kBatch, count, scratch.path / "cache");
    return processor_seconds() - begin;
  };
  const auto alone = [&] {
    const at::NoGradGuard no_grad;
    const double begin = processor_seconds();
    for (int64_t first = 0; first < count; first += kBatch) {
      std::vector<int64_t> numbers;
      for (int64_t row = first; row < std::min(first + kBatch, count); ++row) numbers.push_back(row);
      const Batch batch = make_batch(rows, numbers);
      const at::Tensor hidden = teacher.hidden({batch.at("ids"), batch.at("segments"), {}, {}}).reshape({-1, teacher.spec().hidden});
      // As many rows at once as a capture takes: all logits together would cost page faults that a capture never has.
      const int64_t step = std::clamp<int64_t>((int64_t{32} << 20) / vocab, 64, 1024);
      for (int64_t row = 0; row < hidden.size(0); row += step)
        benchmark::DoNotOptimize(teacher.logits(hidden.narrow(0, row, std::min(step, hidden.size(0) - row))).data_ptr());
    }
    return processor_seconds() - begin;
  };
  with(), alone();
  std::vector<double> ratios;
  for (auto _ : state) {
    const double capturing = with();
    ratios.push_back(capturing / alone());
  }
  state.counters["ratio"] = middle(ratios);
  state.counters["bytes_per_token"] = facts["bytes_per_token"].get<double>();
  state.counters["distinct_ids"] = facts["distinct_ids"].get<double>();
}
BENCHMARK(capture_cost)->Args({4096, 96})->Args({32768, 32})->Iterations(5)->Unit(benchmark::kMillisecond);

void step_from_cache(benchmark::State& state) {
  set_up_machine(0);
  set_log_level("error");
  const Scratch scratch;
  std::ofstream(scratch.path / "teacher.yaml") << kTeacher;
  std::ofstream(scratch.path / "student.yaml") << kStudent;
  // bench_train reads rows 0 to 63 of a cache, each with every position but the last.
  const int64_t vocab = 4096, count = 4 * kBatch;
  const TokenRows rows = bench_rows(count, vocab);
  capture(narrow_teacher(vocab, 14), rows, bench_identity(vocab), kBatch, 16, scratch.path / "cache");
  BenchTrain online;
  online.student = scratch.path / "student.yaml", online.teacher = scratch.path / "teacher.yaml", online.steps = 2;
  BenchTrain cached = online;
  cached.teacher.reset(), cached.cache = scratch.path / "cache";
  std::vector<double> ratios, shares, steps;
  for (auto _ : state) {
    const Json slow = bench_train(online), quick = bench_train(cached);
    const double step = quick["step_processor_s"].get<double>();
    ratios.push_back(slow["step_processor_s"].get<double>() / step);
    shares.push_back(quick["loader_processor_s"].get<double>() / step);
    steps.push_back(step);
  }
  std::vector<double> readings;
  for (int i = 0; i < 5; ++i) {
    const double begin = processor_seconds();
    const CacheReader reader(scratch.path / "cache");
    for (int64_t first = 0; first < count; first += kBatch) {
      std::vector<int64_t> numbers;
      for (int64_t row = first; row < first + kBatch; ++row) numbers.push_back(row);
      benchmark::DoNotOptimize(reader.targets(make_batch(rows, numbers)).ids.data_ptr());
    }
    readings.push_back(processor_seconds() - begin);
  }
  state.counters["ratio"] = middle(ratios);
  state.counters["loader_share"] = middle(shares);
  state.counters["step_s"] = middle(steps);
  state.counters["reading"] = (count / kBatch) * middle(steps) / middle(readings);
}
BENCHMARK(step_from_cache)->Iterations(3)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace attar
