#include "device/threads.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"

namespace attar {
namespace {

std::set<int> mask_of_this_thread() {
  cpu_set_t mask;
  std::set<int> out;
  EXPECT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &mask)) out.insert(core);
  return out;
}

/// The cores of each thread of a team.
std::vector<std::set<int>> masks_of_team(int threads) {
  std::vector<std::set<int>> out(static_cast<size_t>(threads));
#pragma omp parallel num_threads(threads)
  out[static_cast<size_t>(omp_get_thread_num())] = mask_of_this_thread();
  return out;
}

TEST(ThreadSetting, PinsEachThreadToACoreOfItsOwnAndUndoesIt) {
  const std::vector<int> cores = allowed_cores();
  ASSERT_FALSE(cores.empty());
  const std::set<int> before = mask_of_this_thread();
  EXPECT_EQ(std::set<int>(cores.begin(), cores.end()), before);
  const int64_t threads_before = thread_count(), most = std::min<int64_t>(static_cast<int64_t>(cores.size()), 4);
  for (const int64_t threads : {int64_t{1}, most}) {
    {
      const ThreadSetting setting(threads, true);
      EXPECT_TRUE(setting.pinned()) << setting.why_not();
      EXPECT_EQ(thread_count(), threads);
      std::set<int> taken;
      for (const std::set<int>& mask : masks_of_team(static_cast<int>(threads))) {
        ASSERT_EQ(mask.size(), 1u);
        EXPECT_TRUE(before.count(*mask.begin()));
        EXPECT_TRUE(taken.insert(*mask.begin()).second) << "two threads on core " << *mask.begin();
      }
    }
    EXPECT_EQ(thread_count(), threads_before);
    for (const std::set<int>& mask : masks_of_team(static_cast<int>(most))) EXPECT_EQ(mask, before);
  }
}

TEST(ThreadSetting, AThreadThatBeganMeanwhileIsFreeAfterwards) {
  const std::set<int> before = mask_of_this_thread();
  std::atomic<int> step = 0;
  std::set<int> pinned, later;
  std::thread other;
  {
    const ThreadSetting setting(1, true);
    other = std::thread([&] {
      pinned = mask_of_this_thread();
      step = 1;
      while (step < 2) std::this_thread::yield();
      later = mask_of_this_thread();
    });
    while (step < 1) std::this_thread::yield();
  }
  step = 2;
  other.join();
  EXPECT_EQ(pinned.size(), 1u);
  EXPECT_EQ(later, before);
}

TEST(ThreadSetting, MoreThreadsThanCoresAreNotPinned) {
  const std::set<int> before = mask_of_this_thread();
  const int64_t many = static_cast<int64_t>(before.size()) + 1;
  const ThreadSetting setting(many, true);
  EXPECT_FALSE(setting.pinned());
  EXPECT_NE(setting.why_not().find(str(many, " threads on ", before.size(), " core")), std::string::npos) << setting.why_not();
  EXPECT_EQ(mask_of_this_thread(), before);
  EXPECT_THROW(ThreadSetting(-1, false), Error);
}

TEST(ThreadSetting, ResultsAfterwardsAreThoseOfBefore) {
  const int64_t threads_before = thread_count();
  const at::Tensor a = at::sin(at::arange(0, 300 * 700, at::kFloat)).reshape({300, 700});
  const at::Tensor b = at::cos(at::arange(0, 700 * 200, at::kFloat)).reshape({700, 200});
  const at::Tensor before = at::mm(a, b);
  {
    const ThreadSetting setting(threads_before == 1 ? 2 : 1, true);
    EXPECT_NE(thread_count(), threads_before);
    at::mm(a, b);
  }
  EXPECT_EQ(thread_count(), threads_before);
  EXPECT_TRUE(at::equal(at::mm(a, b), before));
}

TEST(AllowedCores, TakesOneOfEachPhysicalCoreFirst) {
  const std::vector<int> cores = allowed_cores("/nowhere");
  ASSERT_FALSE(cores.empty());
  // A machine whose cores are all threads of one: the order is that of the plain list. One whose neighbours are pairs: every second comes first.
  const TestFolder one, pairs;
  std::vector<int> sorted = cores;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) {
    const std::string folder = "cpu" + std::to_string(sorted[i]) + "/topology";
    fs::create_directories(one / folder), fs::create_directories(pairs / folder);
    write_file(one / (folder + "/thread_siblings_list"), "0-1023\n");
    write_file(pairs / (folder + "/thread_siblings_list"), std::to_string(i / 2) + "\n");
  }
  const std::vector<int> found = allowed_cores(pairs.path());
  EXPECT_EQ(std::set<int>(found.begin(), found.end()), std::set<int>(sorted.begin(), sorted.end()));
  std::set<size_t> pair_numbers;
  for (size_t i = 0; i < (sorted.size() + 1) / 2; ++i)
    pair_numbers.insert(static_cast<size_t>(std::find(sorted.begin(), sorted.end(), found[i]) - sorted.begin()) / 2);
  EXPECT_EQ(pair_numbers.size(), (sorted.size() + 1) / 2);
  EXPECT_EQ(allowed_cores(one.path()).size(), sorted.size());
}

}  // namespace
}  // namespace attar
