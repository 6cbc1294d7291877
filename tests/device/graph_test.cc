#include "device/graph.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>

#include <cstring>
#include <string_view>

#include "base/files.h"
#include "device/device.h"
#include "host_graph.h"

namespace attar {
namespace {

TEST(Graph, WorkIsDoneAsItStandsThenRecordedThenReplayed) {
  int calls = 0, graphs = 0;
  RecordedWork work([&] { ++graphs; return std::make_unique<HostGraph>(); }, "the work", true);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(work.recorded(), i > RecordedWork::kPlainRuns);
    work.run([&] { ++calls; });
    EXPECT_EQ(calls, i + 1);
  }
  EXPECT_EQ(graphs, 1);
  RecordedWork plain({}, "the work", true);
  for (int i = 0; i < 5; ++i) plain.run([&] { ++calls; });
  EXPECT_EQ(calls, 10);
  EXPECT_FALSE(plain.recorded());
}

TEST(Graph, WhatCannotBeRecordedIsAnErrorOrDoneAsItStands) {
  int calls = 0;
  RecordedWork willing(host_graphs(true), "the work", false), strict(host_graphs(true), "the work", true);
  for (int i = 0; i < 5; ++i) willing.run([&] { ++calls; });
  EXPECT_EQ(calls, 5);
  EXPECT_FALSE(willing.recorded());
  for (int i = 0; i < RecordedWork::kPlainRuns; ++i) strict.run([&] { ++calls; });
  EXPECT_THROW(strict.run([&] { ++calls; }), Error);
  EXPECT_EQ(calls, 5 + RecordedWork::kPlainRuns);
}

TEST(Graph, ACpuHasNoCudaGraphs) {
  std::string why;
  EXPECT_FALSE(cuda_graphs(at::kCPU, &why));
  EXPECT_NE(why.find("no GPU"), std::string::npos) << why;
  const GraphStream nothing(at::kCPU);
}

/// What is looked up in LibTorch's CUDA side when a graph is asked for stands in the library of this build: its strings hold every name.
TEST(Graph, LibTorchHasTheNamesThatAreLookedUp) {
  std::string cpu;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        if (std::string_view(info->dlpi_name).ends_with("libtorch_cpu.so")) *static_cast<std::string*>(out) = info->dlpi_name;
        return 0;
      },
      &cpu);
  ASSERT_FALSE(cpu.empty());
  const fs::path cuda = fs::path(cpu).parent_path() / "libtorch_cuda.so";
  if (!fs::exists(cuda)) GTEST_SKIP() << "SKIPPED LOUDLY: this LibTorch has no CUDA side";
  const MappedFile file(cuda);
  Elf64_Ehdr head;
  ASSERT_GT(file.bytes().size(), sizeof head);
  std::memcpy(&head, file.bytes().data(), sizeof head);
  std::string_view names;  // of what the library gives to others: the one table of strings that is loaded
  for (int i = 0; i < head.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, file.bytes().data() + head.e_shoff + static_cast<size_t>(i) * sizeof section, sizeof section);
    if (section.sh_type == SHT_STRTAB && section.sh_flags & SHF_ALLOC)
      names = {reinterpret_cast<const char*>(file.bytes().data()) + section.sh_offset, section.sh_size};
  }
  ASSERT_FALSE(names.empty());
  for (const char* name : cuda_graph_names()) EXPECT_NE(names.find(std::string(1, '\0') + name + '\0'), std::string_view::npos) << name;
}

TEST(CudaGraph, ReplaysOnTheSameMemory) {
  std::string why;
  if (!cuda_usable(&why)) GTEST_SKIP() << "SKIPPED LOUDLY: no CUDA graph was recorded: " << why;
  const at::Device gpu = parse_device("cuda");
  const MakeGraph make = cuda_graphs(gpu, &why);
  ASSERT_TRUE(make) << why;
  const GraphStream stream(gpu);
  const at::Tensor in = at::ones({1000}, at::TensorOptions(gpu)), sum = at::zeros({}, in.options());
  RecordedWork work(make, "a sum", true);
  for (int i = 0; i < 6; ++i) {
    in.fill_(i + 1);
    work.run([&] { sum.add_((in * 2).sum()); });
  }
  EXPECT_TRUE(work.recorded());
  EXPECT_EQ(sum.item<float>(), 2000.0f * 21);
  RecordedWork waits(make, "a number read", true);
  const auto read = [&] { sum.add_(in.sum().item<float>()); };
  for (int i = 0; i < RecordedWork::kPlainRuns; ++i) waits.run(read);
  EXPECT_THROW(waits.run(read), Error);
  sum.zero_();
  work.run([] {});
  EXPECT_EQ(sum.item<float>(), 12000.0f) << "a recording that failed has spoiled nothing";
}

}  // namespace
}  // namespace attar
