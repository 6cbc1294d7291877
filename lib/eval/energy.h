#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// Energy that processors and their memory used, by the RAPL counters of Linux (Documentation/power/powercap/powercap.rst): those of every package
/// and DRAM domain together, whoever used it. A counter that ran over its range once is followed; packages do so after some minutes at full load.
class EnergyMeter {
 public:
  explicit EnergyMeter(const fs::path& powercap = "/sys/class/powercap");
  /// Why there is no number; empty: there is one.
  const std::string& reason() const { return reason_; }
  void start();
  double joules() const;                        ///< since start(); 0 where counters cannot be read
  std::vector<std::string> domains() const;     ///< "package-0", "dram", ... in the order of their folders

 private:
  struct Counter {
    std::string domain;
    fs::path file;
    double range = 0, begin = 0;                ///< microjoules; what it holds at most
  };
  std::vector<Counter> counters_;
  std::string reason_;
};

}  // namespace attar
