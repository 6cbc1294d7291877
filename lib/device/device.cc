#include "device/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <malloc.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "base/check.h"
#include "base/files.h"

namespace attar {
namespace {

constexpr const char* kCudaPart = "libattar_cuda.so";

/// Folder of the running program, or "" where the system does not say.
fs::path program_folder() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::path() : self.parent_path();
}

/// Opens the CUDA part, which registers LibTorch's CUDA backend by being loaded. Empty on success, else why not.
std::string open_cuda_part() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) return "this machine has no NVIDIA driver (libcuda.so.1 cannot be loaded)";
  std::vector<std::string> places;
  if (const char* given = std::getenv("ATTAR_CUDA_LIBRARY"); given && *given) places.push_back(given);
  const fs::path program = program_folder();
  for (const char* beside : {"../lib", ".", "lib"}) {
    const fs::path place = program / beside / kCudaPart;
    std::error_code error;
    if (!program.empty() && fs::exists(place, error)) places.push_back(place.string());
  }
  if (places.empty()) return str("this build has no CUDA part (", kCudaPart, " is not beside the program)");
  void* part = dlopen(places.front().c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!part) {
    const char* why = dlerror();
    return str("the CUDA part does not load: ", why ? why : places.front());
  }
  // Returns null when a device is ready, else a sentence that stays valid.
  using Ready = const char* (*)();
  const auto ready = reinterpret_cast<Ready>(dlsym(part, "attar_cuda_ready"));
  if (!ready) return str("the CUDA part ", places.front(), " is of another version");
  if (const char* why = ready()) return why;
  return "";
}

/// Number of this process among those that a launcher started on this machine; 0 without a launcher.
int64_t local_rank() {
  for (const char* name : {"LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"})
    if (const char* value = std::getenv(name); value && *value) return std::max<int64_t>(0, std::strtoll(value, nullptr, 10));
  return 0;
}

int64_t gpu_count() { return static_cast<int64_t>(at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount()); }

/// A GPU, made the one that kernels of our own are started on.
at::Device current_gpu(int64_t index) {
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
  c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(device);
  return device;
}

/// Asked once a process.
const std::string& cuda_refusal() {
  static const std::string refusal = open_cuda_part();
  return refusal;
}

int64_t usable_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max(1, omp_get_num_procs());
}

}  // namespace

bool cuda_usable(std::string* why_not) {
  const std::string& refusal = cuda_refusal();
  if (why_not) *why_not = refusal;
  return refusal.empty();
}

at::Device parse_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name == "auto") return cuda_usable() ? current_gpu(local_rank() % gpu_count()) : at::Device(at::kCPU);
  if (name == "cuda" || name.starts_with("cuda:")) {
    int64_t index = 0;
    if (name != "cuda") {
      const std::string digits = name.substr(5);
      if (digits.empty() || digits.size() > 3 || !std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }))
        fail("device '" + name + "'", "cuda:N with N a number from 0", digits);
      index = std::stol(digits);
    }
    std::string why;
    if (!cuda_usable(&why)) fail("device '" + name + "'", "a usable NVIDIA GPU", why, "use --device cpu or auto");
    const int64_t count = gpu_count();
    if (index >= count) fail("device '" + name + "'", str("an index below ", count), str(index));
    return current_gpu(name == "cuda" ? local_rank() % count : index);
  }
  fail("device '" + name + "'", "cpu, cuda, cuda:N or auto", name, nearest_hint(name, {"cpu", "cuda", "auto"}));
}

namespace {
/// A training step makes the same large temporaries again and again: given back to the system they cost page faults each time.
void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
}
}  // namespace

FreedMemoryGivenBack::FreedMemoryGivenBack(bool wanted) : wanted_(wanted) {
  if (!wanted_) return;
  mallopt(M_MMAP_MAX, 1 << 16);
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
  mallopt(M_TOP_PAD, 1 << 20);
  malloc_trim(0);
}
FreedMemoryGivenBack::~FreedMemoryGivenBack() {
  if (wanted_) keep_freed_memory();
}

void set_up_machine(int64_t threads) {
  keep_freed_memory();
  if (threads < 0) fail("--threads", "0 (as many as cores) or more", str(threads));
  const int64_t count = threads ? std::min<int64_t>(threads, 1024) : usable_cores();
  at::set_num_threads(static_cast<int>(count));
  omp_set_num_threads(static_cast<int>(count));
  omp_set_dynamic(0);
  static std::once_flag once;
  std::call_once(once, [] {
    try {
      at::set_num_interop_threads(1);
    } catch (const std::exception&) {
      // LibTorch takes this number only before its first parallel work; later it keeps what it has.
    }
  });
}

int64_t thread_count() { return at::get_num_threads(); }

}  // namespace attar
