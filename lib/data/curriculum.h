#pragma once
#include <vector>

#include "data/rows.h"

namespace attar {

/// Mean tokens of a row's documents, one number a row: what a curriculum by length sorts by.
std::vector<double> document_lengths(const TokenRows& rows);

/// `rows` from the smallest value to the largest, equals by number. `values`: one for each row of the data, not only for these.
std::vector<int64_t> sorted_by(std::vector<int64_t> rows, const std::vector<double>& values);

/// Rows that stay after the teacher has been asked.
struct KeptRows {
  std::vector<int64_t> rows;           ///< by rising number
  int64_t dropped_highest = 0, dropped_lowest = 0;
  double lowest = 0, highest = 0;      ///< losses of rows that stay lie between
};
/// Leaves out floor(share * rows) of those with the highest and of those with the lowest loss (sorted_by decides among equals).
/// Error if a share is not in [0, 1), or nothing stays.
KeptRows keep_by_loss(const std::vector<int64_t>& rows, const std::vector<double>& losses, const FilterConfig& config);

}  // namespace attar
