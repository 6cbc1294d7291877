#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"

namespace attar {

class GpuCounters;

/// Energy that a machine's parts used, whoever used it. Processors and their memory by the RAPL counters of Linux
/// (Documentation/power/powercap/powercap.rst): those of every package and DRAM domain together; a counter that ran over its range once is followed,
/// packages do so after some minutes at full load. GPUs, for a model that runs on one, by NVML's total energy (nvmlDeviceGetTotalEnergyConsumption,
/// Volta or later), all that NVML sees.
class EnergyMeter {
 public:
  /// `nvml`: the library that is opened when GPUs are counted.
  explicit EnergyMeter(const fs::path& powercap = "/sys/class/powercap", std::string nvml = "libnvidia-ml.so.1");
  ~EnergyMeter();
  /// GPUs count from now on, or no longer. Without NVML there is then no number: processors alone would look like the whole.
  void count_gpus(bool wanted);
  /// What is left out and why; empty: nothing. With no domains it is why there is no number.
  const std::string& reason() const { return reason_; }
  void start();
  double joules() const;                        ///< since start(); 0 where counters cannot be read
  std::vector<std::string> domains() const;     ///< "package-0", "dram", ..., "gpu-0", ... in the order of their folders and of NVML
  std::string source() const;                   ///< "RAPL", "NVML", "RAPL and NVML"; empty without domains

 private:
  struct Counter {
    std::string domain;
    fs::path file;
    double range = 0, begin = 0;                ///< microjoules; what it holds at most
  };
  std::vector<Counter> counters_;
  std::string nvml_, no_counters_, reason_;
  std::unique_ptr<GpuCounters> gpus_;
  std::vector<double> gpus_begin_;              ///< joules
};

}  // namespace attar
