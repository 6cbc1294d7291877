#include "device/threads.h"

#include <ATen/Parallel.h>
#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/check.h"
#include "device/device.h"

namespace attar {
namespace {

/// Cores of a thread (0: the caller). Empty where the system does not say.
std::vector<int> cores_of(pid_t thread) {
  cpu_set_t mask;
  std::vector<int> out;
  if (sched_getaffinity(thread, sizeof mask, &mask) != 0) return out;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &mask)) out.push_back(core);
  return out;
}

bool put_on(pid_t thread, const std::vector<int>& cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int core : cores) CPU_SET(core, &mask);
  return sched_setaffinity(thread, sizeof mask, &mask) == 0;
}

/// Threads of this process.
std::vector<pid_t> all_threads() {
  std::vector<pid_t> out;
  std::error_code error;
  for (fs::directory_iterator it("/proc/self/task", error), end; !error && it != end; it.increment(error))
    out.push_back(static_cast<pid_t>(std::strtol(it->path().filename().c_str(), nullptr, 10)));
  return out;
}

void set_thread_count(int64_t threads) {
  at::set_num_threads(static_cast<int>(threads));
  omp_set_num_threads(static_cast<int>(threads));
}

}  // namespace

std::vector<int> allowed_cores(const fs::path& topology) {
  std::vector<int> cores = cores_of(0), first, others;
  if (const auto here = std::find(cores.begin(), cores.end(), sched_getcpu()); here != cores.end()) std::rotate(cores.begin(), here, cores.end());
  std::set<std::string> physical;
  for (const int core : cores) {
    const fs::path siblings = topology / ("cpu" + std::to_string(core)) / "topology" / "thread_siblings_list";
    std::error_code error;
    const bool fresh = physical.insert(fs::exists(siblings, error) ? read_file(siblings) : std::to_string(core)).second;
    (fresh ? first : others).push_back(core);
  }
  first.insert(first.end(), others.begin(), others.end());
  return first;
}

ThreadSetting::ThreadSetting(int64_t threads, bool pinned) : threads_before_(thread_count()) {
  check(threads >= 0, "threads", "0 (as many as are set) or more", str(threads));
  if (threads == 0) threads = threads_before_;
  if (threads != threads_before_) set_thread_count(threads);
  if (pinned) pin(threads);
}

void ThreadSetting::pin(int64_t threads) {
  const std::vector<int> cores = allowed_cores();
  if (cores.empty()) why_not_ = "the system does not say which cores may be used";
  else if (omp_get_proc_bind() != omp_proc_bind_false) why_not_ = "OMP_PROC_BIND places the threads already";
  else if (threads > static_cast<int64_t>(cores.size()))
    why_not_ = str(threads, " threads on ", cores.size(), cores.size() == 1 ? " core" : " cores");
  if (!why_not_.empty()) return;
  for (const pid_t thread : all_threads()) cores_before_[thread] = cores_of(thread);
  bool all = true;
#pragma omp parallel num_threads(static_cast<int>(threads)) reduction(&& : all)
  all = put_on(0, {cores[static_cast<size_t>(omp_get_thread_num())]});
  if (!all) why_not_ = "the system does not let threads be placed";
  pinned_ = all;
}

ThreadSetting::~ThreadSetting() {
  if (const auto caller = cores_before_.find(gettid()); caller != cores_before_.end()) {
    for (const pid_t thread : all_threads()) {
      const auto before = cores_before_.find(thread);
      put_on(thread, before == cores_before_.end() ? caller->second : before->second);
    }
  }
  if (thread_count() != threads_before_) set_thread_count(threads_before_);
}

}  // namespace attar
