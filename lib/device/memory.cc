#include <ATen/Version.h>
#include <torch/version.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "base/check.h"
#include "base/files.h"
#include "device/device.h"
#include "device/peak_rate.h"

namespace attar {
namespace {

/// "VmHWM:   1234 kB" of a /proc file as bytes; 0 if the line is not there.
int64_t kilobytes_line(const char* file, const std::string& key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line))
    if (line.starts_with(key + ":")) return std::strtoll(line.c_str() + key.size() + 1, nullptr, 10) * 1024;
  return 0;
}

/// A limit file's number of bytes; the largest number where it says "max", is absent or has nonsense.
int64_t limit_of(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  if (!(in >> word) || word.empty() || word[0] < '0' || word[0] > '9') return std::numeric_limits<int64_t>::max();
  errno = 0;
  const int64_t value = std::strtoll(word.c_str(), nullptr, 10);
  return errno || value <= 0 ? std::numeric_limits<int64_t>::max() : value;
}

/// The smallest memory limit of this process's control groups and of those above them.
int64_t control_group_limit() {
  int64_t smallest = std::numeric_limits<int64_t>::max();
  std::ifstream in("/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && controllers.find("memory") == std::string::npos) continue;
    const fs::path root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char* name = unified ? "memory.max" : "memory.limit_in_bytes";
    for (fs::path group = fs::path(line.substr(second + 1)).relative_path();; group = group.parent_path()) {
      smallest = std::min(smallest, limit_of(root / group / name));
      if (group.empty()) break;
    }
  }
  return smallest;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line))
    if (line.starts_with("model name")) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  return "unknown CPU";
}

std::string system_name() {
  utsname facts{};
  uname(&facts);
  std::string distribution = facts.sysname;
  std::ifstream in("/etc/os-release");
  std::string line;
  while (std::getline(in, line))
    if (line.starts_with("PRETTY_NAME=")) {
      distribution = line.substr(12);
      std::erase(distribution, '"');
    }
  return str(distribution, ", kernel ", facts.release, ", ", facts.machine);
}

}  // namespace

int64_t peak_rss_bytes() { return kilobytes_line("/proc/self/status", "VmHWM"); }
int64_t current_rss_bytes() { return kilobytes_line("/proc/self/status", "VmRSS"); }

void reset_peak_rss() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5";
}

int64_t memory_limit_bytes() {
  const int64_t machine = kilobytes_line("/proc/meminfo", "MemTotal");
  return std::min(machine ? machine : std::numeric_limits<int64_t>::max(), control_group_limit());
}

MachineFacts machine_facts() {
  MachineFacts facts;
  facts.cpu = cpu_name();
  std::string why;
  facts.gpu = cuda_usable(&why) ? gpu_name(0) : "none: " + why;
  facts.libtorch = TORCH_VERSION;
  facts.compiler = str("g++ ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
  facts.system = system_name();
  facts.cores = sysconf(_SC_NPROCESSORS_ONLN);
  facts.memory = kilobytes_line("/proc/meminfo", "MemTotal");
  return facts;
}

}  // namespace attar
