#include "device/peak_rate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <immintrin.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>

#include "base/check.h"
#include "device/device.h"

namespace attar {
namespace {

constexpr int kChains = 12;           ///< multiply-adds that do not wait for each other
constexpr int64_t kTurns = 1 << 19;   ///< of each chain: some milliseconds

__attribute__((target("avx512f"))) float chains_avx512() {
  __m512 sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = _mm512_set1_ps(float(c));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_fmadd_ps(sums[c], a, b);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_ps(sums[0], sums[c]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx2,fma"))) float chains_avx2() {
  __m256 sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = _mm256_set1_ps(float(c));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm256_fmadd_ps(sums[c], a, b);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_ps(sums[0], sums[c]);
  return _mm256_cvtss_f32(sums[0]);
}

float chains_plain() {
  __m128 sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = _mm_set1_ps(float(c));
  const __m128 a = _mm_set1_ps(0.999f), b = _mm_set1_ps(0.001f);
  for (int64_t turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm_add_ps(_mm_mul_ps(sums[c], a), b);
  }
  for (int c = 1; c < kChains; ++c) sums[0] = _mm_add_ps(sums[0], sums[c]);
  return _mm_cvtss_f32(sums[0]);
}

/// Multiply-adds in registers on every thread at once: what no product in float32 can pass.
double arithmetic_rate() {
  const bool wide = __builtin_cpu_supports("avx512f"), fused = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const double lanes = wide ? 16 : fused ? 8 : 4, threads = static_cast<double>(thread_count());
  volatile float kept = 0;
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    const auto begin = std::chrono::steady_clock::now();
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
      const float sum = wide ? chains_avx512() : fused ? chains_avx2() : chains_plain();
#pragma omp critical
      kept = kept + sum;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, 2 * lanes * kChains * static_cast<double>(kTurns) * threads / seconds);
  }
  return best;
}

/// Best of some square products on a GPU, in operations a second.
double measured_rate(at::Device device, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  const int64_t n = 8192;
  const at::Tensor a = at::ones({n, n}, at::TensorOptions().device(device).dtype(type)), b = at::ones_like(a);
  double best = 0;
  for (int round = 0; round < 6; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    const at::Tensor product = at::mm(a, b);
    (void)product[0][0].item<double>();
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
  if (device.is_cpu()) {
    rate.flops = std::max(rate.flops, arithmetic_rate());
    rate.from = str("float32 multiply-adds in registers measured on this machine, ", thread_count(), thread_count() == 1 ? " thread" : " threads");
    return rate;
  }
  if (rate.flops > 0) return rate;
  const std::string name = gpu_name(std::max<int64_t>(device.index(), 0));
  if (bf16 && known_bf16_rate(name) > 0) return rate = {known_bf16_rate(name), str("data sheet of ", name, ", bf16 dense")};
  rate.from = str("matrix product measured on ", name.empty() ? "this GPU" : name, bf16 ? ", bf16" : ", fp32");
  rate.flops = measured_rate(device, bf16 ? at::kBFloat16 : at::kFloat);
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
