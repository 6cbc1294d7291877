#pragma once
#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace attar {

/// "cpu", "cuda", "cuda:1" or "auto" (CUDA where it works). Without a usable GPU, "cuda" is an Error saying why. Where a launcher started several
/// processes on this machine, "cuda" and "auto" give each its own GPU, in turn. The GPU becomes the process's current one.
at::Device parse_device(const std::string& name);
bool cuda_usable(std::string* why_not = nullptr);

/// Number of threads for LibTorch and OpenMP (0: as many as cores), and malloc told to keep freed memory.
void set_up_machine(int64_t threads);
int64_t thread_count();

/// While it lives, and if wanted, freed memory goes back to the system: work that trades time for memory would else keep the holes between its
/// temporaries.
class FreedMemoryGivenBack {
 public:
  explicit FreedMemoryGivenBack(bool wanted);
  ~FreedMemoryGivenBack();
  FreedMemoryGivenBack(const FreedMemoryGivenBack&) = delete;
  FreedMemoryGivenBack& operator=(const FreedMemoryGivenBack&) = delete;

 private:
  bool wanted_;
};

int64_t peak_rss_bytes();      ///< of this process since its start, or since reset_peak_rss()
void reset_peak_rss();         ///< where the system lets us (/proc/self/clear_refs)
int64_t current_rss_bytes();
int64_t memory_limit_bytes();  ///< what this process may use (cgroup or machine)

/// What the machine is, for reports: CPU model, cores, memory, GPU, LibTorch, compiler.
struct MachineFacts {
  std::string cpu, gpu, libtorch, compiler, system;
  int64_t cores = 0, memory = 0;
};
MachineFacts machine_facts();

}  // namespace attar
