#include "dist/nccl.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <link.h>

#include <barrier>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/check.h"

namespace attar {
namespace {

/// NCCL as its documentation has it, for two threads and float32 in the host's memory: what the real one needs a GPU each for.
struct FakeNccl {
  static constexpr int kRanks = 2, kFloat = 7, kSum = 0, kWrong = 4;
  struct Comm {
    int rank;
  };
  static inline std::barrier<> meet{kRanks};
  static inline const float* given[kRanks];
  static inline int broken = 0, destroyed = 0, aborted = 0;

  /// Every rank's input, while all stand still.
  template <class Work>
  static int together(void* comm, const void* in, int type, int operation, const Work& work) {
    if (type != kFloat || operation != kSum) return kWrong;
    const int rank = static_cast<Comm*>(comm)->rank;
    given[rank] = static_cast<const float*>(in);
    meet.arrive_and_wait();
    std::vector<float> out = work(rank);
    meet.arrive_and_wait();
    std::memcpy(work.place, out.data(), out.size() * sizeof(float));
    meet.arrive_and_wait();
    return 0;
  }
  template <class Values>
  struct Job {
    void* place;
    Values values;
    std::vector<float> operator()(int rank) const { return values(rank); }
  };
  template <class Values>
  static Job<Values> job(void* place, Values values) { return {place, values}; }

  static int version(int* out) { return *out = 22105, 0; }
  static const char* error_words(int) { return "invalid argument"; }
  static int unique_id(NcclLibrary::UniqueId* id) { return std::strcpy(id->bytes, "meeting"), 0; }
  static int init(void** comm, int ranks, NcclLibrary::UniqueId id, int rank) {
    if (ranks != kRanks || std::string(id.bytes) != "meeting") return kWrong;
    *comm = new Comm{rank};
    return 0;
  }
  static int all_reduce(const void* in, void* out, size_t count, int type, int operation, void* comm, void*) {
    return together(comm, in, type, operation, job(out, [=](int) {
      std::vector<float> sums(count);
      for (size_t i = 0; i < count; ++i) sums[i] = given[0][i] + given[1][i];
      return sums;
    }));
  }
  static int broadcast(const void* in, void* out, size_t count, int type, int root, void* comm, void*) {
    return together(comm, in, type, kSum, job(out, [=](int) { return std::vector<float>(given[root], given[root] + count); }));
  }
  static int reduce_scatter(const void* in, void* out, size_t count_out, int type, int operation, void* comm, void*) {
    return together(comm, in, type, operation, job(out, [=](int rank) {
      std::vector<float> sums(count_out);
      for (size_t i = 0; i < count_out; ++i) sums[i] = given[0][rank * count_out + i] + given[1][rank * count_out + i];
      return sums;
    }));
  }
  static int all_gather(const void* in, void* out, size_t count_in, int type, void* comm, void*) {
    return together(comm, in, type, kSum, job(out, [=](int) {
      std::vector<float> all(given[0], given[0] + count_in);
      all.insert(all.end(), given[1], given[1] + count_in);
      return all;
    }));
  }
  static int async_error(void*, int* error) { return *error = broken, 0; }
  static int abort(void*) { return ++aborted, 0; }
  static int destroy(void* comm) {
    delete static_cast<Comm*>(comm);
    return ++destroyed, 0;
  }
  static NcclLibrary library() {
    return {version, error_words, unique_id, init, all_reduce, broadcast, reduce_scatter, all_gather, async_error, abort, destroy};
  }
};

TEST(Nccl, CollectivesAreCalledAsNcclWantsThem) {
  const NcclLibrary library = FakeNccl::library();
  NcclLibrary::UniqueId id{};
  ASSERT_EQ(library.unique_id(&id), 0);
  std::string faults[2];
  const auto rank_work = [&](int rank) {
    const auto expect = [&](const at::Tensor& got, const at::Tensor& wanted, const char* what) {
      if (!at::equal(got, wanted)) faults[rank] += what;
    };
    NcclComm comm(library, id, rank, 2, at::kCPU);
    const at::Tensor base = at::arange(6, at::kFloat) + 1;
    at::Tensor all = base * (rank + 1);
    comm.all_reduce_sum(all)();
    expect(all, base * 3, "all_reduce ");
    at::Tensor sent = base * (rank + 1);
    comm.broadcast(sent, 1)();
    expect(sent, base * 2, "broadcast ");
    const at::Tensor input = base * (rank + 1), part = at::empty({3});
    comm.reduce_scatter_sum(part, input)();
    expect(part, (base * 3).narrow(0, 3 * rank, 3), "reduce_scatter ");
    const at::Tensor whole = at::empty({6});
    comm.all_gather(whole, part)();
    expect(whole, base * 3, "all_gather ");
  };
  std::thread other(rank_work, 1);
  rank_work(0);
  other.join();
  EXPECT_EQ(faults[0] + faults[1], "");
  EXPECT_EQ(FakeNccl::destroyed, 2);
}

TEST(Nccl, WhatCannotWorkIsOneSentence) {
  const NcclLibrary library = FakeNccl::library();
  NcclLibrary::UniqueId id{};
  EXPECT_THROW(NcclComm(library, id, 0, 2, at::kCPU), Error) << "another meeting's name";
  library.unique_id(&id);
  NcclComm comm(library, id, 0, 2, at::kCPU);
  EXPECT_THROW(comm.all_reduce_sum(at::zeros({2}, at::kBool)), Error);
  EXPECT_THROW(comm.all_reduce_sum(at::zeros({2, 3}).t()), Error);
  EXPECT_THROW(comm.all_reduce_sum(at::zeros({2}, at::kDouble)), Error) << "NCCL's own refusal";
  FakeNccl::broken = 6;
  EXPECT_THROW(comm.all_reduce_sum(at::zeros({2})), Error) << "a fault that came later";
  FakeNccl::broken = 0;
  comm.abort();
  comm.abort();
  EXPECT_EQ(FakeNccl::aborted, 1);
  EXPECT_THROW(comm.all_reduce_sum(at::zeros({2})), Error);
  std::string why;
  EXPECT_EQ(nccl_library(why, "/nowhere/libnccl.so.2"), nullptr);
  EXPECT_NE(why.find("NCCL cannot be loaded"), std::string::npos) << why;
  EXPECT_EQ(nccl_library(why, "libm.so.6"), nullptr);
  EXPECT_NE(why.find("has not all functions"), std::string::npos) << why;
}

TEST(Nccl, TheRealLibraryHasTheseFunctions) {
  std::filesystem::path torch;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        const std::string name = info->dlpi_name ? info->dlpi_name : "";
        if (name.ends_with("libtorch_cpu.so")) *static_cast<std::filesystem::path*>(out) = name;
        return 0;
      },
      &torch);
  ASSERT_FALSE(torch.empty());
  const std::filesystem::path place = torch.parent_path() / "../../nvidia/nccl/lib/libnccl.so.2";
  if (!std::filesystem::exists(place)) GTEST_SKIP() << "SKIPPED LOUDLY: no NCCL beside LibTorch (" << place << "): install the full torch wheel";
  std::string why;
  const NcclLibrary* library = nccl_library(why, place.string());
  ASSERT_NE(library, nullptr) << why;
  int version = 0;
  EXPECT_EQ(library->version(&version), 0);
  EXPECT_GE(version, 20400);
  EXPECT_STREQ(library->error_words(0), "no error");
}

}  // namespace
}  // namespace attar
