#include "data/curriculum.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace attar {

std::vector<double> document_lengths(const TokenRows& rows) {
  const at::Tensor documents = std::get<0>(rows.segments.max(1)).to(at::kDouble).add(1).clamp_min(1);
  const at::Tensor mean = rows.lengths.to(at::kDouble).div(documents).contiguous();
  return {mean.const_data_ptr<double>(), mean.const_data_ptr<double>() + mean.numel()};
}

std::vector<int64_t> sorted_by(std::vector<int64_t> rows, const std::vector<double>& values) {
  std::sort(rows.begin(), rows.end(), [&](int64_t a, int64_t b) {
    const double first = values[static_cast<size_t>(a)], second = values[static_cast<size_t>(b)];
    return first != second ? first < second : a < b;
  });
  return rows;
}

KeptRows keep_by_loss(const std::vector<int64_t>& rows, const std::vector<double>& losses, const FilterConfig& config) {
  for (const auto& [name, share] : {std::pair("drop_highest", config.drop_highest), std::pair("drop_lowest", config.drop_lowest)})
    check(share >= 0 && share < 1, str("data.filter.", name), "a share of the rows, 0 or more and below 1", str(share));
  const auto count = [&](double share) { return static_cast<int64_t>(std::floor(share * static_cast<double>(rows.size()))); };
  KeptRows out;
  out.dropped_highest = count(config.drop_highest);
  out.dropped_lowest = count(config.drop_lowest);
  const int64_t left = static_cast<int64_t>(rows.size()) - out.dropped_highest - out.dropped_lowest;
  check(left > 0, "data.filter", "shares that leave rows", str(out.dropped_highest, " and ", out.dropped_lowest, " of ", rows.size(), " dropped"));
  const std::vector<int64_t> sorted = sorted_by(rows, losses);
  out.rows.assign(sorted.begin() + out.dropped_lowest, sorted.begin() + out.dropped_lowest + left);
  out.lowest = losses[static_cast<size_t>(out.rows.front())];
  out.highest = losses[static_cast<size_t>(out.rows.back())];
  std::sort(out.rows.begin(), out.rows.end());
  return out;
}

}  // namespace attar
