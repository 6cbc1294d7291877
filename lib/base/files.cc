#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"

namespace attar {

namespace {

/// Throws for a file that cannot be read; a missing one with the nearest name of its folder.
[[noreturn]] void fail_reading(const fs::path& path, int problem) {
  if (problem != ENOENT) fail("cannot read " + path.string(), "", "", std::strerror(problem));
  std::vector<std::string> names;
  std::error_code ignored;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end && names.size() < 500; entry.increment(ignored))
    names.push_back(entry->path().filename().string());
  const std::string near = nearest(path.filename().string(), names);
  fail("file " + path.string(), "to be there", "nothing", near.empty() ? "" : "did you mean '" + near + "'?");
}

/// Opens a regular file for reading; its size with it.
int open_regular(const fs::path& path, uint64_t& size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail_reading(path, errno);
  struct stat info;
  if (::fstat(descriptor, &info) != 0) {
    const int problem = errno;
    ::close(descriptor);
    fail_reading(path, problem);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor);
    fail("cannot read " + path.string(), "a regular file", S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe");
  }
  size = static_cast<uint64_t>(info.st_size);
  return descriptor;
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  uint64_t size = 0;
  const int descriptor = open_regular(path, size);
  if (size > 0) {
    void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
    const int problem = errno;
    if (mapped == MAP_FAILED) {
      ::close(descriptor);
      fail_reading(path, problem);
    }
    data_ = static_cast<const uint8_t*>(mapped);
    size_ = size;
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    path_ = std::move(other.path_);
  }
  return *this;
}

void MappedFile::release(size_t begin, size_t length) const {
  if (begin >= size_ || length == 0) return;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t first = begin / page * page;
  // A page shared with what follows may still be needed, unless nothing follows.
  const size_t end = length >= size_ - begin ? size_ : (begin + length) / page * page;
  if (end > first) ::madvise(const_cast<uint8_t*>(data_) + first, end - first, MADV_DONTNEED);
}

std::string read_file(const fs::path& path, uint64_t limit) {
  uint64_t size = 0;
  const int descriptor = open_regular(path, size);
  std::string content;
  int problem = 0;
  bool too_large = size > limit;
  try {
    if (!too_large) content.resize(size + 1);
    size_t done = 0;
    // Files of the system claim to be empty, and others may grow while they are read: what ends the reading is the end.
    while (!too_large) {
      if (done == content.size()) content.resize(content.size() * 2);
      const ssize_t got = ::read(descriptor, content.data() + done, content.size() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) problem = errno;
      if (got <= 0) break;
      done += static_cast<size_t>(got);
      too_large = done > limit;
    }
    content.resize(done);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
  if (problem) fail_reading(path, problem);
  if (too_large) fail("file " + path.string(), "at most " + human_bytes(static_cast<double>(limit)), "more");
  return content;
}

void make_folder(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  // A link to a folder is reported as a problem by some versions of the library, and is none.
  if (!fs::is_directory(folder))
    fail("cannot make folder " + folder.string(), "", "", problem ? problem.message() : "there is something else of that name");
  if (::access(folder.c_str(), W_OK | X_OK) != 0) fail("cannot write into folder " + folder.string(), "", "", std::strerror(errno));
}

uint64_t folder_bytes(const fs::path& folder) {
  uint64_t bytes = 0;
  std::error_code problem;
  fs::recursive_directory_iterator entry(folder, problem), end;
  if (problem) fail("cannot read folder " + folder.string(), "", "", problem.message());
  for (; entry != end; entry.increment(problem)) {
    if (problem) fail("cannot read folder " + folder.string(), "", "", problem.message());
    std::error_code gone;
    if (!entry->is_regular_file(gone) || gone) continue;
    const uint64_t size = entry->file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

void check_inside(const std::string& name, const std::string& where) {
  const auto refuse = [&](const char* why) { fail(where, "a relative path inside its folder", "'" + name + "'", why); };
  if (name.empty()) refuse("it is empty");
  if (name.find('\0') != std::string::npos) refuse("it holds a zero byte");
  if (name.find('\\') != std::string::npos) refuse("it holds a backslash");
  if (name.front() == '/') refuse("it is absolute");
  bool names_something = false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    if (part == "..") refuse("it leaves the folder");
    names_something = !part.empty() && part != ".";
    begin = end + 1;
  }
  if (!names_something) refuse("it names no file");
}

fs::path find_path(const std::string& path, const fs::path& base) {
  if (path.empty()) fail("path", "the name of a file or folder", "an empty text");
  std::error_code ignored;
  const fs::path given(path);
  if (fs::exists(given, ignored)) return given;
  if (given.is_absolute()) fail(path, "to be there", "nothing");
  const fs::path beside = base / given;
  if (fs::exists(beside, ignored)) return beside;
  fail(path, "to be there", "nothing", "looked at " + fs::absolute(given).string() + " and " + fs::absolute(beside).string());
}

std::string expand_environment(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t dollar = text.find("${", at);
    out += text.substr(at, dollar - at);
    if (dollar == std::string::npos) break;
    const size_t close = text.find('}', dollar);
    if (close == std::string::npos) fail("'" + text + "'", "a '}' for every '${'", "none");
    const std::string inner = text.substr(dollar + 2, close - dollar - 2);
    const size_t colon = inner.find(":-");
    const std::string name = inner.substr(0, colon);
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
    if (name.empty() || !std::all_of(name.begin(), name.end(), letter) || (name[0] >= '0' && name[0] <= '9'))
      fail("'" + text + "'", "the name of an environment variable between '${' and '}'", "'" + name + "'");
    const char* value = std::getenv(name.c_str());
    if (colon != std::string::npos)
      out += value && *value ? std::string(value) : inner.substr(colon + 2);
    else if (value)
      out += value;
    else
      fail("'" + text + "'", "the environment variable " + name + " to be set", "nothing", "set it, or write ${" + name + ":-default}");
    at = close + 1;
  }
  return out;
}

}  // namespace attar
