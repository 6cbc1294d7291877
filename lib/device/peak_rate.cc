#include "device/peak_rate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>

#include "base/check.h"
#include "device/device.h"

namespace attar {
namespace {

/// Best of some square products, in operations a second.
double measured_rate(at::Device device, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  const int64_t n = device.is_cpu() ? 512 : 8192;
  const at::Tensor a = at::ones({n, n}, at::TensorOptions().device(device).dtype(type)), b = at::ones_like(a);
  double best = 0;
  for (int round = 0; round < 6; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    const at::Tensor product = at::mm(a, b);
    if (!device.is_cpu()) (void)product[0][0].item<double>();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (round > 0) best = std::max(best, 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) / std::max(seconds, 1e-9));
  }
  return best;
}

/// What a function of the driver that fills in a text says of a device; "" without a driver.
std::string driver_words(const char* function, int64_t index) {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) return "";
  const auto start = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto device = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto words = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, function));
  int handle = 0;
  char text[256] = {};
  const bool known = start && device && words && start(0) == 0 && device(&handle, static_cast<int>(index)) == 0;
  return known && words(text, sizeof text - 1, handle) == 0 ? text : "";
}

}  // namespace

double known_bf16_rate(const std::string& gpu) {
  // TFLOP/s, dense, from NVIDIA's data sheets; the first name that is part of the GPU's wins.
  static const std::pair<const char*, double> kSheets[] = {
      {"B200", 2250}, {"H200 NVL", 835}, {"GH200", 989.4}, {"H200", 989.4}, {"H100 PCIe", 756}, {"H100 NVL", 835}, {"H100", 989.4}, {"A100", 312},
      {"A800", 312},  {"L40S", 362},     {"A40", 149.7},  {"A30", 165},       {"RTX 4090", 165.2}};
  for (const auto& [name, rate] : kSheets)
    if (gpu.find(name) != std::string::npos) return rate * 1e12;
  return 0;
}

std::string gpu_name(int64_t index) { return driver_words("cuDeviceGetName", index); }

std::string gpu_place(int64_t index) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const std::string bus = driver_words("cuDeviceGetPCIBusId", index);
  return str(host, " ", bus.empty() ? std::to_string(index) : bus);
}

PeakRate peak_rate(at::Device device, bool bf16) {
  static std::mutex guard;
  static std::map<std::string, PeakRate> kept;
  const std::lock_guard<std::mutex> lock(guard);
  PeakRate& rate = kept[str(device.str(), bf16, ":", thread_count())];
  if (rate.flops > 0) return rate;
  const std::string type = bf16 ? "bf16" : "fp32";
  if (device.is_cuda()) {
    const std::string name = gpu_name(std::max<int64_t>(device.index(), 0));
    if (bf16 && known_bf16_rate(name) > 0) return rate = {known_bf16_rate(name), str("data sheet of ", name, ", bf16 dense")};
    rate.from = str("matrix product measured on ", name.empty() ? "this GPU" : name, ", ", type);
    rate.flops = measured_rate(device, bf16 ? at::kBFloat16 : at::kFloat);
    return rate;
  }
  // bf16 on a CPU may be slower than fp32: what counts is the better of what the hardware can.
  rate.flops = measured_rate(device, at::kFloat);
  if (bf16) rate.flops = std::max(rate.flops, measured_rate(device, at::kBFloat16));
  rate.from = str("matrix product measured on this machine, ", type, ", ", thread_count(), thread_count() == 1 ? " thread" : " threads");
  return rate;
}

int64_t peak_bytes(at::Device device) {
  if (device.is_cpu()) return peak_rss_bytes();
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(std::max<c10::DeviceIndex>(device.index(), 0));
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

void reset_peak_bytes(at::Device device) {
  if (device.is_cpu()) return reset_peak_rss();
  c10::getDeviceAllocator(device.type())->resetPeakStats(std::max<c10::DeviceIndex>(device.index(), 0));
}

}  // namespace attar
