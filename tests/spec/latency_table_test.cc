#include "spec/latency_table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "base/files.h"
#include "data_path.h"

namespace attar {
namespace {

/// Times that grow as a power of each width: log-log interpolation is exact, inside and outside.
LatencyTable power_table() {
  LatencyTable table;
  table.machine = "a machine", table.widths = {64, 256, 1024};
  for (int64_t rows : table.widths)
    for (int64_t columns : table.widths)
      table.linear_ms.push_back(1e-6 * static_cast<double>(rows) * std::pow(static_cast<double>(columns), 0.9));
  table.layer_ms = 0.01, table.token_ms = 0.1;
  return table;
}

TEST(LatencyTable, InterpolatesBetweenShapesAndBeyondThem) {
  const LatencyTable table = power_table();
  for (int64_t rows : {16, 64, 100, 256, 700, 1024, 4096})
    for (int64_t columns : {16, 64, 100, 256, 700, 1024, 4096}) {
      const double expected = 1e-6 * static_cast<double>(rows) * std::pow(static_cast<double>(columns), 0.9);
      EXPECT_NEAR(table.linear(rows, columns), expected, 1e-9 * expected) << rows << " x " << columns;
    }
  LatencyTable measured = table;
  measured.linear_ms[4] = 7;
  EXPECT_NEAR(measured.linear(256, 256), 7, 1e-12) << "a measured shape is what was measured";
}

TEST(LatencyTable, ATokenIsTheSumOfItsParts) {
  const LatencyTable table = power_table();
  ModelSpec s;
  s.vocab = 500, s.hidden = 64, s.head_size = 16;
  s.layers = {{.ffn = 96, .heads = 4, .kv_heads = 2}, {.ffn = 64, .heads = 2, .kv_heads = 1}};
  double sum = 0.1 + table.linear(500, 64) + 2 * 0.01;
  sum += table.linear(64, 64) + 2 * table.linear(32, 64) + table.linear(64, 64) + 2 * table.linear(96, 64) + table.linear(64, 96);
  sum += table.linear(32, 64) + 2 * table.linear(16, 64) + table.linear(64, 32) + 2 * table.linear(64, 64) + table.linear(64, 64);
  EXPECT_NEAR(table.token(s), sum, 1e-12);
}

TEST(LatencyTable, IsKeptAndReadStrictly) {
  const TestFolder folder;
  const fs::path file = folder / "latency.json";
  const LatencyTable table = power_table();
  write_latency_table(table, file);
  const LatencyTable back = read_latency_table(file);
  EXPECT_EQ(back.machine, table.machine);
  EXPECT_EQ(back.widths, table.widths);
  EXPECT_EQ(back.linear_ms, table.linear_ms);
  EXPECT_EQ(back.token_ms, table.token_ms);
  const Json whole = read_json(file);
  const auto refused = [&](const char* key, const Json& value) {
    Json wrong = whole;
    wrong[key] = value;
    write_json(file, wrong);
    EXPECT_THROW(read_latency_table(file), Error) << key << to_line(value);
  };
  refused("kind", "a cake");
  refused("version", 2);
  refused("widths", {64});
  refused("widths", {64, 64, 1024});
  refused("widths", {256, 64, 1024});
  refused("widths", {0, 64, 1024});
  refused("widths", "wide");
  refused("linear_ms", {1, 2, 3});
  refused("linear_ms", {1, 2, 3, 4, -5, 6, 7, 8, 9});
  refused("linear_ms", {1, 2, 3, 4, 0, 6, 7, 8, 9});
  refused("layer_ms", -1);
  refused("token_ms", "soon");
  write_file(file, "[]");
  EXPECT_THROW(read_latency_table(file), Error);
}

}  // namespace
}  // namespace attar
