// NVML's C interface as the energy tests need it. FAKE_NVML_GPUS: how many GPUs; -N: N, of which the last has no counter.
#include <cstdlib>

namespace {

int asked() {
  const char* told = std::getenv("FAKE_NVML_GPUS");
  return told ? std::atoi(told) : 0;
}
unsigned long long used[16];

}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(std::abs(asked()));
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = &used[index];
  return 0;
}
/// In millijoules: 1500 more with every question.
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* energy) {
  auto* counter = static_cast<unsigned long long*>(device);
  if (asked() < 0 && counter == &used[-asked() - 1]) return 3;
  *energy = *counter += 1500;
  return 0;
}
}
#pragma GCC visibility pop
