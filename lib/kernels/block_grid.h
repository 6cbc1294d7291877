#pragma once
#include <cstdint>

#include "formats/ggml_types.h"

namespace attar {

/// What is left to choose once a block's scales are written: for each weight a code, whose value is step * number(code) - low.
struct GridShape {
  int block, width;     ///< weights of a block, and of those that share step and low
  int lowest, highest;  ///< numbers are the whole ones between these, code 0 the lowest; both 0: number() tells them
  int codes;
};
/// Error for plain types.
GridShape grid_shape(GgmlType type);
/// The number that code 0 .. codes-1 stands for.
float grid_number(GgmlType type, int code);

/// Steps and lows of the parts of one block, in their order (block / width of each, 16 at most), as a reader of its bytes computes them.
struct GridScales {
  float step[16], low[16];
};
void read_grid_scales(GgmlType type, const uint8_t* block, GridScales& scales);
/// Puts codes (one a weight) beside the scales that are there.
void write_grid_codes(GgmlType type, const uint8_t* codes, uint8_t* block);

/// Nearest codes of n weights, each with its own step and low, and the values a reader sees, bit for bit. A step of 0 takes the number nearest 0.
void round_to_grid(GgmlType type, const float* weights, const float* steps, const float* lows, int n, uint8_t* codes, float* values);

}  // namespace attar
