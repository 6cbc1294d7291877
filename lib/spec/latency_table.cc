#include "spec/latency_table.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/files.h"

namespace attar {
namespace {

constexpr const char* kLatencyKind = "attar latency table";

/// The interval of `widths` that `value` lies in, or the nearest at an end, and how far along (in logarithms; outside: beyond 0 and 1).
std::pair<size_t, double> interval_of(const std::vector<int64_t>& widths, int64_t value) {
  size_t low = 0;
  while (low + 2 < widths.size() && widths[low + 1] <= value) ++low;
  const double from = std::log(static_cast<double>(widths[low])), to = std::log(static_cast<double>(widths[low + 1]));
  return {low, (std::log(static_cast<double>(std::max<int64_t>(value, 1))) - from) / (to - from)};
}

}  // namespace

double LatencyTable::linear(int64_t rows, int64_t columns) const {
  const auto [i, along] = interval_of(widths, rows);
  const auto [j, across] = interval_of(widths, columns);
  const auto at = [&, j = j](size_t row, size_t column) { return std::log(linear_ms[row * widths.size() + column]); };
  const double low = at(i, j) + (at(i, j + 1) - at(i, j)) * across, high = at(i + 1, j) + (at(i + 1, j + 1) - at(i + 1, j)) * across;
  return std::exp(low + (high - low) * along);
}

double LatencyTable::token(const ModelSpec& spec) const {
  double sum = token_ms + linear(spec.vocab, spec.hidden);
  for (const LayerSpec& layer : spec.layers) {
    const int64_t q = layer.heads * spec.head_size, kv = layer.kv_heads * spec.head_size;
    sum += layer_ms + linear(q, spec.hidden) + 2 * linear(kv, spec.hidden) + linear(spec.hidden, q) + 2 * linear(layer.ffn, spec.hidden) +
           linear(spec.hidden, layer.ffn);
  }
  return sum;
}

void write_latency_table(const LatencyTable& table, const std::filesystem::path& file) {
  write_json(file, {{"kind", kLatencyKind}, {"version", 1}, {"machine", table.machine}, {"widths", table.widths}, {"linear_ms", table.linear_ms},
                    {"layer_ms", table.layer_ms}, {"token_ms", table.token_ms}});
}

LatencyTable read_latency_table(const std::filesystem::path& file) {
  const std::string name = file.string();
  const Json json = read_json(file);
  check(json.is_object() && json.value("kind", Json()) == kLatencyKind && json.value("version", Json()) == 1, name,
        std::string(kLatencyKind) + ", version 1", "something else", "make one with: attar bench latency --out " + name);
  LatencyTable table;
  table.machine = get<std::string>(json, "machine", name);
  table.widths = get<std::vector<int64_t>>(json, "widths", name);
  table.linear_ms = get<std::vector<double>>(json, "linear_ms", name);
  table.layer_ms = get<double>(json, "layer_ms", name);
  table.token_ms = get<double>(json, "token_ms", name);
  const auto time = [](double ms) { return std::isfinite(ms) && ms > 0 && ms < 1e9; };
  const bool rising = std::is_sorted(table.widths.begin(), table.widths.end(), [](int64_t a, int64_t b) { return a <= b; });
  check(table.widths.size() >= 2 && table.widths.size() <= 64 && table.widths[0] > 0 && rising, name + ": widths", "two or more, rising", "others");
  check(table.linear_ms.size() == table.widths.size() * table.widths.size() && std::all_of(table.linear_ms.begin(), table.linear_ms.end(), time) &&
            std::isfinite(table.layer_ms) && table.layer_ms >= 0 && std::isfinite(table.token_ms) && table.token_ms >= 0,
        name, "times above 0 for every shape", "others", "measure again: attar bench latency --out " + name);
  return table;
}

}  // namespace attar
