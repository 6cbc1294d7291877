// Encoders and decoders of ggml blocks on one thread: bytes per second are of fp16 weights, two for each.
#include <omp.h>

#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/rng.h"
#include "formats/ggml_types.h"
#include "blocks/ggml_blocks.h"

namespace {

constexpr int64_t kRows = 64, kColumns = 4096;

std::vector<float> weights() {
  attar::Rng rng(1);
  std::vector<float> x(static_cast<size_t>(kRows * kColumns));
  for (float& value : x) value = 0.03f * float(rng.normal());
  return x;
}

void encode(benchmark::State& state, attar::GgmlType type, bool weighted) {
  omp_set_num_threads(1);
  const auto x = weights();
  std::vector<float> importance(static_cast<size_t>(kColumns));
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = 0.1f + float(i % 13);
  std::vector<uint8_t> out(size_t(kRows * attar::ggml_row_bytes(type, kColumns)));
  for (auto _ : state) attar::quantize_rows(type, x.data(), out.data(), kRows, kColumns, weighted ? importance.data() : nullptr);
  state.SetBytesProcessed(state.iterations() * kRows * kColumns * 2);
}

void decode(benchmark::State& state, attar::GgmlType type) {
  omp_set_num_threads(1);
  auto x = weights();
  std::vector<uint8_t> blocks(size_t(kRows * attar::ggml_row_bytes(type, kColumns)));
  attar::quantize_rows(type, x.data(), blocks.data(), kRows, kColumns);
  for (auto _ : state) attar::dequantize_rows(type, blocks.data(), x.data(), kRows, kColumns);
  state.SetBytesProcessed(state.iterations() * kRows * kColumns * 2);
}

const bool kRegistered = [] {
  for (const attar::GgmlTypeInfo& info : attar::ggml_types()) {
    if (!attar::quantizable(info.type)) continue;
    const attar::GgmlType type = info.type;
    benchmark::RegisterBenchmark((std::string("encode/") + info.name).c_str(), [type](benchmark::State& state) { encode(state, type, false); });
    if (attar::uses_importance(type))
      benchmark::RegisterBenchmark((std::string("encode_importance/") + info.name).c_str(),
                                   [type](benchmark::State& state) { encode(state, type, true); });
    benchmark::RegisterBenchmark((std::string("decode/") + info.name).c_str(), [type](benchmark::State& state) { decode(state, type); });
  }
  return true;
}();

}  // namespace
