#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <arpa/inet.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/check.h"
#include "dist/process_group.h"

extern char** environ;

namespace attar {
namespace {

/// Clears every launcher's variables, so that the test's own surroundings do not matter.
void clear_launcher() {
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE",
                           "OMPI_COMM_WORLD_RANK"})
    unsetenv(name);
}

int free_port() {
  const int place = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(place, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(place, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(place);
  return ntohs(address.sin_port);
}

/// This program again, running one test with more environment.
pid_t start_rank(const std::string& test, const std::vector<std::string>& more) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry; ++entry) entries.push_back(*entry);
  entries.insert(entries.end(), more.begin(), more.end());
  std::vector<char*> environment;
  for (std::string& entry : entries) environment.push_back(entry.data());
  environment.push_back(nullptr);
  std::string program = "/proc/self/exe", filter = "--gtest_filter=" + test;
  char self[4096];
  const ssize_t length = ::readlink(program.c_str(), self, sizeof self - 1);
  EXPECT_GT(length, 0);
  self[length] = 0;
  char* words[] = {self, filter.data(), nullptr};
  pid_t child = -1;
  EXPECT_EQ(posix_spawn(&child, self, nullptr, nullptr, words, environment.data()), 0);
  return child;
}

TEST(ProcessGroup, OneIsARealGroup) {
  clear_launcher();
  const auto group = process_group_from_environment();
  EXPECT_EQ(group->rank(), 0);
  EXPECT_EQ(group->size(), 1);
  at::Tensor values = at::arange(5, at::kFloat);
  const at::Tensor before = values.clone();
  group->all_reduce_sum(values);
  group->broadcast(values, 0);
  group->barrier();
  at::Tensor part = at::empty({5}), whole = at::empty({5});
  group->reduce_scatter_sum(part, values);
  group->all_gather(whole, part);
  EXPECT_TRUE(at::equal(whole, before));
  EXPECT_TRUE(at::equal(values, before));
  setenv("WORLD_SIZE", "1", 1);
  setenv("RANK", "0", 1);
  EXPECT_EQ(process_group_from_environment()->size(), 1);
  clear_launcher();
}

TEST(ProcessGroup, WrongEnvironmentIsRefused) {
  clear_launcher();
  setenv("WORLD_SIZE", "2", 1);
  for (const char* rank : {"2", "-1", "x", "1.5"}) {
    setenv("RANK", rank, 1);
    EXPECT_THROW(process_group_from_environment(), Error) << rank;
  }
  setenv("RANK", "0", 1);
  EXPECT_THROW(process_group_from_environment(), Error) << "no MASTER_ADDR";
  clear_launcher();
}

/// What each rank of the tests below does; run by itself it is no rank and has nothing to do.
TEST(ProcessGroupRank, SumsAndBroadcasts) {
  if (!std::getenv("ATTAR_TEST_RANK")) return;
  const auto group = process_group_from_environment();
  ASSERT_EQ(group->size(), 2);
  ASSERT_EQ(group->rank(), std::atoi(std::getenv("ATTAR_TEST_RANK")));
  at::Tensor values = at::arange(6, at::kFloat) + static_cast<double>(10 * group->rank());
  group->all_reduce_sum(values);
  EXPECT_TRUE(at::equal(values, at::arange(6, at::kFloat) * 2 + 10));
  at::Tensor strided = at::full({4, 6}, static_cast<double>(group->rank() + 1)).transpose(0, 1);
  group->all_reduce_sum(strided);
  EXPECT_TRUE(at::equal(strided, at::full({6, 4}, 3.0)));
  at::Tensor word = at::full({3}, static_cast<double>(group->rank() + 5), at::kLong);
  group->broadcast(word, 1);
  EXPECT_TRUE(at::equal(word, at::full({3}, 6, at::kLong)));
  const double mine = static_cast<double>(group->rank());
  at::Tensor part = at::empty({2});
  group->reduce_scatter_sum(part, at::arange(4, at::kFloat) * (mine + 1));
  EXPECT_TRUE(at::equal(part, (at::arange(2, at::kFloat) + 2 * mine) * 3));
  at::Tensor first = at::empty({1}), second = at::empty({3});
  const auto wait_first = group->start_reduce_scatter_sum(first, at::ones({2}));
  const auto wait_second = group->start_reduce_scatter_sum(second, at::ones({6}) * mine);
  wait_second(), wait_first();
  EXPECT_TRUE(at::equal(first, at::full({1}, 2.0)) && at::equal(second, at::ones({3})));
  at::Tensor whole = at::empty({6});
  group->all_gather(whole, at::full({3}, mine));
  EXPECT_TRUE(at::equal(whole, at::tensor({0, 0, 0, 1, 1, 1}, at::kFloat)));
  EXPECT_EQ(process_group_from_environment(), group) << "one group a process";
  group->barrier();
}

/// Rank 1 ends in the midst of the work; rank 0 must end with a sentence that names it.
TEST(ProcessGroupRank, OneDies) {
  if (!std::getenv("ATTAR_TEST_RANK")) return;
  const auto group = process_group_from_environment();
  group->barrier();
  if (group->rank() == 1) ::_exit(7);
  try {
    for (int i = 0; i < 3; ++i) group->barrier();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("rank 1 is gone"), std::string::npos) << error.what();
  }
}

void meet(const std::function<std::vector<std::string>(int rank, int port)>& surroundings) {
  clear_launcher();
  const int port = free_port();
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    std::vector<std::string> more = surroundings(rank, port);
    more.push_back("ATTAR_TEST_RANK=" + std::to_string(rank));
    ranks.push_back(start_rank("ProcessGroupRank.SumsAndBroadcasts", more));
  }
  for (pid_t rank : ranks) {
    int status = -1;
    waitpid(rank, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}

TEST(ProcessGroup, ARankThatDiesIsNamed) {
  clear_launcher();
  const int port = free_port();
  pid_t ranks[2];
  for (int rank = 0; rank < 2; ++rank)
    ranks[rank] = start_rank("ProcessGroupRank.OneDies", {"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                                                          "MASTER_PORT=" + std::to_string(port), "ATTAR_TEST_RANK=" + std::to_string(rank)});
  int status = -1;
  waitpid(ranks[0], &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  waitpid(ranks[1], &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

TEST(ProcessGroup, RanksMeetAsTorchrunStartsThem) {
  meet([](int rank, int port) {
    return std::vector<std::string>{"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + std::to_string(port)};
  });
}

TEST(ProcessGroup, RanksMeetAsSlurmStartsThem) {
  meet([](int rank, int port) {
    return std::vector<std::string>{"SLURM_PROCID=" + std::to_string(rank), "SLURM_STEP_NUM_TASKS=2", "SLURM_JOB_ID=" + std::to_string(port),
                                    "MASTER_PORT=" + std::to_string(port)};
  });
}

TEST(ProcessGroup, RanksMeetAsOpenMpiStartsThem) {
  meet([](int rank, int port) {
    return std::vector<std::string>{"OMPI_COMM_WORLD_RANK=" + std::to_string(rank), "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_SIZE=2",
                                    "MASTER_PORT=" + std::to_string(port)};
  });
}

}  // namespace
}  // namespace attar
