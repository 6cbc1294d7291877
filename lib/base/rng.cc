#include "base/rng.h"

#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.h"

namespace attar {

namespace {

/// Philox 4x32 with ten rounds: counter (index, stream), key (seed). Constants of the paper, table 2 and section 4.3.
std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t index) {
  std::array<uint32_t, 4> x{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(stream),
                            static_cast<uint32_t>(stream >> 32)};
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * x[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * x[2];
    x = {static_cast<uint32_t>(product1 >> 32) ^ x[1] ^ key0, static_cast<uint32_t>(product1),
         static_cast<uint32_t>(product0 >> 32) ^ x[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return x;
}

uint64_t two_words(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }
double unit_interval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace

uint64_t Rng::next() {
  const auto words = philox(seed_, stream_, index_++);
  return two_words(words[0], words[1]);
}

double Rng::uniform() { return unit_interval(next()); }

double Rng::normal() {
  // Box-Muller from the four words of one block, so that a normal number takes one index like any other.
  const auto words = philox(seed_, stream_, index_++);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - unit_interval(two_words(words[0], words[1]))));
  return radius * std::cos(2.0 * std::numbers::pi * unit_interval(two_words(words[2], words[3])));
}

int64_t Rng::below(int64_t bound) {
  if (bound <= 0) [[unlikely]]
    fail("random number below a bound", "a positive bound", std::to_string(bound));
  // The high half of a product is uniform once the few low halves that some results would get more often are drawn again.
  const uint64_t range = static_cast<uint64_t>(bound);
  const uint64_t surplus = (0 - range) % range;
  for (;;) {
    const unsigned __int128 product = static_cast<unsigned __int128>(next()) * range;
    if (static_cast<uint64_t>(product) >= surplus) return static_cast<int64_t>(product >> 64);
  }
}

uint64_t stream_of(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a, then mixed so that short names differ in every bit
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9u;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBu;
  return hash ^ (hash >> 31);
}

std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t stream) {
  if (n < 0) fail("length of a permutation", "0 or more", std::to_string(n));
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  Rng rng(seed, stream);
  for (int64_t i = n - 1; i > 0; --i) std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(rng.below(i + 1))]);
  return order;
}

}  // namespace attar
