#include "stages/latency.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "base/check.h"
#include "base/log.h"
#include "device/device.h"
#include "model/layer_ops.h"

namespace attar {
namespace {

constexpr int64_t kBytesWalked = int64_t{32} << 20;  ///< weights of one measurement: more than caches near the cores hold
constexpr int64_t kTokensBefore = 64;

double clock_ms() { return 1e3 * std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// What most calls take when nobody disturbs them: the lower quartile.
double quiet(std::vector<double> values) {
  const size_t quarter = values.size() / 4;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(quarter), values.end());
  return values[quarter];
}

std::string machine_words() { return str(machine_facts().cpu, ", ", thread_count(), " threads"); }

double linear_time(int64_t rows, int64_t columns) {
  constexpr int kRepeats = 5;
  const int64_t copies = std::max<int64_t>(2, kBytesWalked / (4 * rows * columns));
  const at::Tensor weights = at::full({copies, rows, columns}, 0.01, at::kFloat), x = at::ones({1, columns}, at::kFloat);
  std::vector<double> times;
  for (int repeat = 0; repeat < kRepeats + 1; ++repeat)
    for (int64_t copy = 0; copy < copies; ++copy) {
      const at::Tensor weight = weights[copy];
      const double begin = clock_ms();
      linear_op(x, weight);
      if (repeat) times.push_back(clock_ms() - begin);
    }
  return std::max(quiet(std::move(times)), 1e-6);
}

/// A decoder so narrow that what is not its linears shows.
ModelSpec narrow_spec(size_t layers) {
  ModelSpec spec;
  spec.vocab = 64, spec.hidden = 64, spec.head_size = 16, spec.context = 512;
  spec.layers.assign(layers, LayerSpec{.ffn = 64, .heads = 4, .kv_heads = 2});
  return spec;
}

}  // namespace

double measure_token(const Decoder& model, int64_t repeats) {
  at::NoGradGuard no_grad;
  check(model.spec().context > kTokensBefore + repeats, "bench latency", str("a context of more than ", kTokensBefore + repeats, " tokens"),
        str(model.spec().context));
  KvCache cache;
  model.hidden({at::zeros({1, kTokensBefore}, at::kLong), {}, {}, {}}, &cache);
  const at::Tensor one = at::zeros({1, 1}, at::kLong);
  std::vector<double> times;
  for (int64_t i = 0; i < repeats; ++i) {
    const double begin = clock_ms();
    model.logits(model.hidden({one, {}, {}, {}}, &cache));
    times.push_back(clock_ms() - begin);
  }
  return quiet(std::move(times));
}

LatencyTable measure_latency(const std::vector<int64_t>& widths) {
  constexpr int64_t kRepeats = 101;
  constexpr size_t kFew = 2, kMany = 10;
  at::NoGradGuard no_grad;
  LatencyTable table;
  table.machine = machine_words();
  table.widths = widths;
  for (int64_t rows : widths)
    for (int64_t columns : widths) table.linear_ms.push_back(linear_time(rows, columns));
  const ModelSpec few = narrow_spec(kFew), many = narrow_spec(kMany);
  const double short_ms = measure_token(Decoder::random(few, 1), kRepeats), long_ms = measure_token(Decoder::random(many, 1), kRepeats);
  // A decoder this small stays in the caches, its linears take less than in the table; what is over is the layers' own.
  const double linears = (table.token(many) - table.token(few)) / static_cast<double>(kMany - kFew);
  table.layer_ms = std::max(0.0, (long_ms - short_ms) / static_cast<double>(kMany - kFew) - linears);
  table.token_ms = std::max(0.0, short_ms - table.token(few));
  return table;
}

fs::path own_latency_file() {
  const char* home = std::getenv("ATTAR_HOME");
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* user = std::getenv("HOME");
  if (home && *home) return fs::path(home) / "latency.json";
  if (cache && *cache) return fs::path(cache) / "attar" / "latency.json";
  return fs::path(user ? user : "/tmp") / ".cache" / "attar" / "latency.json";
}

LatencyTable latency_table(const fs::path& given) {
  const std::string here = machine_words();
  if (!given.empty()) {
    LatencyTable table = read_latency_table(given);
    if (table.machine != here) log_warn(given.string() + " was measured on another machine (" + table.machine + "); this one: " + here);
    return table;
  }
  const fs::path own = own_latency_file();
  if (fs::exists(own)) {
    LatencyTable table = read_latency_table(own);
    if (table.machine == here) return table;
  }
  log_info("measuring this machine's latency table: " + own.string());
  const LatencyTable table = measure_latency();
  make_folder(own.parent_path());
  write_latency_table(table, own);
  return table;
}

}  // namespace attar
