#pragma once
#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace attar {

/// What utilisation is a share of.
struct PeakRate {
  double flops = 0;   ///< a second
  std::string from;   ///< where the number comes from, for reports
};

/// The most that this device computes. A GPU that is known, in bf16: what its data sheet says (dense); another: the best of some products, measured
/// once a process. A CPU: float32 multiply-adds in registers on the threads of now, whatever `bf16` says; some 0.02 s a call, of which the best so
/// far in this process counts, because others may take part of the machine.
PeakRate peak_rate(at::Device device, bool bf16);

/// Data-sheet rate of a GPU in bf16 (dense) by its name, or 0.
double known_bf16_rate(const std::string& gpu);

/// Name of a CUDA device as its driver has it; "" without a driver.
std::string gpu_name(int64_t index);
/// Which GPU of which machine that is: host and PCI bus; two processes that see it under different numbers agree.
std::string gpu_place(int64_t index);

/// Largest memory in use: on a GPU, LibTorch's tensors on it; on the CPU this process, since reset_peak_bytes() where the system lets us.
int64_t peak_bytes(at::Device device);
void reset_peak_bytes(at::Device device);

}  // namespace attar
