#include "eval/gpu_counters.h"

#include <dlfcn.h>

#include "base/check.h"

namespace attar {
namespace {

// NVML's C interface (NVML API Reference Guide, "Initialization and Cleanup", "Device Queries"): every call gives 0 where it succeeded.
using Start = int (*)();
using Count = int (*)(unsigned*);
using Handle = int (*)(unsigned, void**);
using Energy = int (*)(void*, unsigned long long*);  ///< millijoules

template <class Function>
Function symbol(void* library, const char* name) {
  return library ? reinterpret_cast<Function>(dlsym(library, name)) : nullptr;
}

}  // namespace

GpuCounters::GpuCounters(const std::string& library) {
  open(library);
  if (!reason_.empty()) devices_.clear();
}

void GpuCounters::open(const std::string& library) {
  library_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library_) {
    reason_ = "NVML (" + library + ") is not on this machine";
    return;
  }
  const auto start = symbol<Start>(library_, "nvmlInit_v2");
  const auto count = symbol<Count>(library_, "nvmlDeviceGetCount_v2");
  const auto handle = symbol<Handle>(library_, "nvmlDeviceGetHandleByIndex_v2");
  const auto energy = symbol<Energy>(library_, "nvmlDeviceGetTotalEnergyConsumption");
  unsigned many = 0;
  if (!start || !count || !handle || !energy || start() != 0 || count(&many) != 0 || many == 0) {
    reason_ = "NVML shows no GPU";
    return;
  }
  for (unsigned i = 0; i < many; ++i) {
    void* device = nullptr;
    unsigned long long used = 0;
    if (handle(i, &device) != 0 || energy(device, &used) != 0) {
      reason_ = str("the energy counter of GPU ", i, " cannot be read by NVML");
      return;
    }
    devices_.push_back(device);
  }
}

GpuCounters::~GpuCounters() {
  if (!library_) return;
  if (const auto stop = symbol<Start>(library_, "nvmlShutdown")) stop();
  dlclose(library_);
}

std::vector<double> GpuCounters::joules() const {
  std::vector<double> out;
  const auto energy = symbol<Energy>(library_, "nvmlDeviceGetTotalEnergyConsumption");
  for (void* device : devices_) {
    unsigned long long used = 0;
    out.push_back(energy(device, &used) == 0 ? 1e-3 * static_cast<double>(used) : 0);
  }
  return out;
}

}  // namespace attar
