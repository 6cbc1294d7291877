#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <sched.h>

#include <vector>

#include "base/check.h"
#include "device/device.h"

namespace attar {
namespace {

TEST(Device, NamesAreRead) {
  EXPECT_TRUE(parse_device("cpu").is_cpu());
  EXPECT_NO_THROW(parse_device("auto"));
  for (const char* wrong : {"gpu", "", "cuda:", "cuda:-1", "cuda:x", "CPU", "cuda:9999999999"}) EXPECT_THROW(parse_device(wrong), Error) << wrong;
}

TEST(Device, CudaIsUsableOrSaysWhyNot) {
  std::string why = "unset";
  if (cuda_usable(&why)) {
    EXPECT_EQ(why, "");
    EXPECT_TRUE(parse_device("cuda").is_cuda());
    return;
  }
  EXPECT_GT(why.size(), 10u);
  EXPECT_EQ(why.find('\n'), std::string::npos);
  try {
    parse_device("cuda");
    FAIL() << "cuda was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(why), std::string::npos);
  }
  EXPECT_TRUE(parse_device("auto").is_cpu());
}

TEST(Device, ThreadsAreSet) {
  set_up_machine(3);
  EXPECT_EQ(thread_count(), 3);
  set_up_machine(0);
  cpu_set_t cores;
  ASSERT_EQ(sched_getaffinity(0, sizeof cores, &cores), 0);
  EXPECT_EQ(thread_count(), CPU_COUNT(&cores));
  EXPECT_THROW(set_up_machine(-1), Error);
}

TEST(Memory, PeakFollowsUse) {
  constexpr int64_t kBytes = int64_t{96} << 20;
  const int64_t before = current_rss_bytes();
  EXPECT_GT(before, 1 << 20);
  {
    std::vector<char> block(kBytes, 1);
    EXPECT_GT(current_rss_bytes(), before + kBytes / 2) << block[12345];
    EXPECT_GE(peak_rss_bytes(), before + kBytes / 2);
  }
  reset_peak_rss();
  EXPECT_GE(peak_rss_bytes() + (4 << 20), current_rss_bytes());
  EXPECT_GT(memory_limit_bytes(), before);
}

TEST(Memory, FactsAreFilled) {
  const MachineFacts facts = machine_facts();
  for (const std::string& text : {facts.cpu, facts.gpu, facts.libtorch, facts.compiler, facts.system}) EXPECT_FALSE(text.empty());
  EXPECT_GE(facts.cores, 1);
  EXPECT_GE(facts.memory, memory_limit_bytes());
}

}  // namespace
}  // namespace attar
