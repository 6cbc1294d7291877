#pragma once
#include <cstdint>
#include <vector>

#include "eval/statistics.h"

namespace attar {

/// Mean and standard error of numbers that come one by one, in constant memory (Welford 1962).
class RunningMean {
 public:
  void add(double value) {
    const double before = value - mean_;
    mean_ += before / static_cast<double>(++count_);
    squares_ += before * (value - mean_);
  }
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  MeanError result() const;   ///< as mean_and_error of all of them

 private:
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

/// Percentiles of numbers from 0 up that come one by one: exact up to kExact of them, beyond by 1024 bins an octave, so within 0.1% of the number, in
/// about a megabyte. Below 2^-60 counts as 0.
class RunningPercentiles {
 public:
  static constexpr int64_t kExact = 1 << 17;
  void add(double value);
  int64_t count() const { return count_; }
  double max() const { return max_; }
  double at(double share) const;   ///< 0 to 1

 private:
  void into_bins();
  double ranked(int64_t rank) const;   ///< of the bins: the number that so many are below
  mutable std::vector<double> exact_;
  mutable bool sorted_ = false;
  std::vector<int64_t> bins_;      ///< empty while all are kept
  int64_t count_ = 0;
  double max_ = 0;
};

}  // namespace attar
