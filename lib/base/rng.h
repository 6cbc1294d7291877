#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace attar {

/// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): a value depends on (seed, stream, index) alone,
/// so any position can be reached without what came before.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0, uint64_t index = 0) : seed_(seed), stream_(stream), index_(index) {}
  uint64_t next();                 ///< 64 random bits
  double uniform();                ///< [0, 1), 53 bits
  double normal();                 ///< mean 0, deviation 1
  int64_t below(int64_t bound);    ///< [0, bound), unbiased
  uint64_t index() const { return index_; }

 private:
  uint64_t seed_, stream_, index_;
};

/// A stream number from a name, so that independent uses of one seed never meet.
uint64_t stream_of(std::string_view name);

/// Random access to a permutation of [0, n): Fisher-Yates from Rng(seed, stream).
std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t stream);

}  // namespace attar
