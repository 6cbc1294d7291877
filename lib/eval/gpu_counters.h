#pragma once
#include <string>
#include <vector>

namespace attar {

/// The energy counters of every GPU that NVML sees. The library is opened at run time, so that a machine without it loses nothing.
class GpuCounters {
 public:
  explicit GpuCounters(const std::string& library);
  ~GpuCounters();
  GpuCounters(const GpuCounters&) = delete;
  GpuCounters& operator=(const GpuCounters&) = delete;
  /// Why there are none; empty: all can be read.
  const std::string& reason() const { return reason_; }
  size_t count() const { return devices_.size(); }
  /// Joules that each has used since its driver was loaded.
  std::vector<double> joules() const;

 private:
  void open(const std::string& library);
  void* library_ = nullptr;
  std::vector<void*> devices_;
  std::string reason_;
};

}  // namespace attar
