#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/files.h"

namespace attar {

/// Logical cores that the calling thread may use (sched_getaffinity), in the order in which threads should take them: one of each physical core
/// first, from the core that the thread is on. `topology`: Linux's description (cpuN/topology/thread_siblings_list); without it every logical core counts
/// as a physical one. Empty where the system does not say.
std::vector<int> allowed_cores(const fs::path& topology = "/sys/devices/system/cpu");

/// While it lives, LibTorch and OpenMP compute with another number of threads, and each of the caller's threads may stay on a core of its own. Then
/// everything is as before: the numbers, and the cores of every thread of the process (threads that began meanwhile get the caller's).
class ThreadSetting {
 public:
  /// `threads` 0: as many as are set. Pinning is left out where there are more threads than cores to use, or where OpenMP places them itself
  /// (OMP_PROC_BIND).
  ThreadSetting(int64_t threads, bool pinned);
  ~ThreadSetting();
  ThreadSetting(const ThreadSetting&) = delete;
  ThreadSetting& operator=(const ThreadSetting&) = delete;
  bool pinned() const { return pinned_; }
  const std::string& why_not() const { return why_not_; }   ///< why it was wanted and is not; else ""

 private:
  void pin(int64_t threads);
  int64_t threads_before_;
  std::map<pid_t, std::vector<int>> cores_before_;          ///< by thread; empty: none was moved
  bool pinned_ = false;
  std::string why_not_;
};

}  // namespace attar
