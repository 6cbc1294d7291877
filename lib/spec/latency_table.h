#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "spec/model_spec.h"

namespace attar {

/// What one generated token costs on one machine, from measurements of its parts: linears of a few shapes, and what a layer and a token cost besides.
struct LatencyTable {
  std::string machine;             ///< processor and threads it was measured with
  std::vector<int64_t> widths;     ///< rising; rows and columns that were measured
  std::vector<double> linear_ms;   ///< (widths, widths): a linear of widths[i] rows and widths[j] columns on one token
  double layer_ms = 0, token_ms = 0;  ///< norms, rotation, attention and all between the linears; embedding and final norm

  /// Of a linear: log-log bilinear between the four shapes around it, by the edge's slope outside them; never below 0.
  double linear(int64_t rows, int64_t columns) const;
  /// Of a model, output matrix included.
  double token(const ModelSpec& spec) const;
};

/// As JSON. Error if the file is no table or holds numbers that no clock gives.
void write_latency_table(const LatencyTable& table, const std::filesystem::path& file);
LatencyTable read_latency_table(const std::filesystem::path& file);

}  // namespace attar
