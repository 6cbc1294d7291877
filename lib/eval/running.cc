#include "eval/running.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace attar {
namespace {

constexpr int kLeastPower = -60, kMostPower = 20, kBinBits = 10;
constexpr size_t kLogBins = (static_cast<size_t>(kMostPower - kLeastPower) << kBinBits) + 1;

/// Bin 0 holds what counts as 0; the others the leading bits of a double.
size_t bin_of(double value) {
  if (!(value >= std::ldexp(1.0, kLeastPower))) return 0;
  const uint64_t first = std::bit_cast<uint64_t>(std::ldexp(1.0, kLeastPower)) >> (52 - kBinBits),
                 bits = std::bit_cast<uint64_t>(value) >> (52 - kBinBits);
  return std::min<size_t>(static_cast<size_t>(bits - first) + 1, kLogBins - 1);
}

double middle_of(size_t bin) {
  if (bin == 0) return 0;
  const uint64_t first = std::bit_cast<uint64_t>(std::ldexp(1.0, kLeastPower)) >> (52 - kBinBits);
  return std::bit_cast<double>(((first + bin - 1) << (52 - kBinBits)) | (uint64_t{1} << (51 - kBinBits)));
}

}  // namespace

MeanError RunningMean::result() const {
  const double n = static_cast<double>(count_);
  return {mean_, count_ > 1 ? std::sqrt(squares_ / (n - 1) / n) : 0};
}

void RunningPercentiles::into_bins() {
  bins_.assign(kLogBins, 0);
  for (const double value : exact_) ++bins_[bin_of(value)];
  exact_ = {};
}

void RunningPercentiles::add(double value) {
  max_ = count_++ ? std::max(max_, value) : value;
  if (bins_.empty()) {
    exact_.push_back(value);
    sorted_ = false;
    if (static_cast<int64_t>(exact_.size()) > kExact) into_bins();
  } else {
    ++bins_[bin_of(value)];
  }
}

double RunningPercentiles::at(double share) const {
  if (bins_.empty()) {
    if (!sorted_) std::sort(exact_.begin(), exact_.end()), sorted_ = true;
    return percentile(exact_, share);
  }
  // Linear between the two neighbours in order, as percentile().
  const double place = share * static_cast<double>(count_ - 1);
  const auto low = static_cast<int64_t>(place), high = std::min(low + 1, count_ - 1);
  const double below = ranked(low), above = ranked(high);
  return below + (place - static_cast<double>(low)) * (above - below);
}

double RunningPercentiles::ranked(int64_t rank) const {
  if (rank == count_ - 1) return max_;
  int64_t below = 0;
  for (size_t bin = 0; bin < kLogBins; ++bin)
    if ((below += bins_[bin]) > rank) return std::min(middle_of(bin), max_);
  return max_;
}

}  // namespace attar
