#include "export/pieces.h"

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace attar {
namespace {

TEST(Pieces, EveryOneIsWorkedOnOnce) {
  std::vector<std::atomic<int>> done(1000);
  for_all_pieces(1000, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
  for (const auto& times : done) EXPECT_EQ(times, 1);
}

TEST(Pieces, TheFirstFailureIsTheOneThatIsThrown) {
  for (int round = 0; round < 20; ++round) {
    try {
      for_all_pieces(200, [](int64_t i) {
        if (i >= 50 && i % 10 == 7) throw std::runtime_error(std::to_string(i));
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "57");
    }
  }
}

}  // namespace
}  // namespace attar
