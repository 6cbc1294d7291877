#pragma once
// What the fuzz targets share: an input as a file, the rule for what may come of it, the limit on memory.
#include <fcntl.h>
#include <sanitizer/allocator_interface.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/files.h"
#include "base/log.h"

namespace attar {

inline std::atomic<int64_t> fuzz_live{0}, fuzz_peak{0};  ///< bytes allocated since the input was begun, now and at most

inline void fuzz_allocated(const volatile void*, size_t size) {
  const int64_t now = fuzz_live += static_cast<int64_t>(size);
  if (now > fuzz_peak) fuzz_peak = now;
}
inline void fuzz_freed(const volatile void* place) {
  if (place) fuzz_live -= static_cast<int64_t>(__sanitizer_get_allocated_size(place));
}

/// Ends the run as a finding, saying why.
[[noreturn]] inline void finding(const std::string& what) {
  std::fprintf(stderr, "ERROR: finding: %s\n", what.c_str());
  std::abort();
}
inline void expect(bool held, const char* what) {
  if (!held) finding(what);
}

/// A folder of the process' own, emptied by whoever runs it.
inline const fs::path& fuzz_folder() {
  static const fs::path folder = [] {
    std::string name = (fs::temp_directory_path() / "attar-fuzz-XXXXXX").string();
    if (!mkdtemp(name.data())) finding("no folder to work in");
    __sanitizer_install_malloc_and_free_hooks(fuzz_allocated, fuzz_freed);
    set_log_level("error");
    if (chdir(name.c_str()) != 0) finding("no folder to work in");
    return fs::path(name);
  }();
  return folder;
}

/// The input as a file of this name.
inline fs::path fuzz_file(const std::string& name, std::string_view bytes) {
  const fs::path path = fuzz_folder() / name;
  unlink(path.c_str());  // some file systems sync a file that is cut to nothing and written again
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0 || write(file, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) finding("the input cannot be written");
  close(file);
  return path;
}

/// Runs `work` on an input of `size` bytes. An Error of one-line sentences is a right answer; another exception, a sentence of several lines or
/// without end, and memory beyond `base` + `factor` * size are findings.
template <class Work>
int fuzz_input(size_t size, int64_t factor, Work&& work, int64_t base = int64_t{1} << 20) {
  fuzz_folder();
  fuzz_live = fuzz_peak = 0;
  try {
    work();
  } catch (const Error& error) {
    expect(!error.faults().empty(), "an Error without a fault");
    for (const Fault& fault : error.faults()) {
      const std::string line = fault.line();
      if (line.find('\n') != std::string::npos) finding("a sentence of several lines: " + line);
      if (line.size() > 20000) finding("a sentence of " + std::to_string(line.size()) + " bytes: " + line.substr(0, 300));
    }
  } catch (const std::exception& problem) {
    finding(std::string("an exception that is no Error: ") + problem.what());
  }
  const int64_t allowed = base + factor * static_cast<int64_t>(size);
  if (fuzz_peak > allowed) finding(str("memory of ", fuzz_peak.load(), " bytes for an input of ", size, ", allowed ", allowed));
  return 0;
}

inline std::string_view fuzz_text(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

}  // namespace attar

#define ATTAR_FUZZ_TARGET extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
